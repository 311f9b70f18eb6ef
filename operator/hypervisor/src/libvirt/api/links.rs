//! Links: the network of the installation, its policies and the taps of machines.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use agentvm_core::names::DomainName;
use agentvm_core::network::{Flow, Mac, Policy, Subnet};
use agentvm_types::OwnerUid;
use ipnet::IpNet;
use tokio::sync::mpsc::Receiver;

use crate::libvirt::handle::{Libvirt, blocking};
use crate::libvirt::machine::links;
use crate::{HvError, LinkApi, RefusedPolicies, Traffic};

#[async_trait::async_trait]
impl LinkApi for Libvirt {
    async fn subnet(&self) -> Result<Subnet, HvError> {
        let ours = self
            .build("make the machines' network", self.host.config.start_timeout, |host, conn| {
                host.network.ensure(conn)
            })
            .await?;
        Ok(ours.subnet)
    }

    async fn ipv6(&self) -> Result<(), HvError> {
        self.build("route IPv6 for machines", self.host.config.start_timeout, |host, conn| {
            host.network.ensure_ipv6(conn)
        })
        .await
    }

    fn gateway_mac(&self) -> Mac {
        self.host.firewall.gateway_mac()
    }

    async fn apply_policies(
        &self,
        policies: BTreeMap<OwnerUid, Policy>,
        deny_list: Vec<IpNet>,
    ) -> Result<RefusedPolicies, HvError> {
        let within = self.host.config.start_timeout;
        self.build("set the network's rules", within, move |host, conn| {
            links::put_in_force(host, conn, policies, &deny_list)
        })
        .await
    }

    async fn apply_policy(
        &self,
        owner_uid: &OwnerUid,
        policy: Option<Policy>,
    ) -> Result<(), HvError> {
        let (host, owner_uid) = (Arc::clone(&self.host), owner_uid.clone());
        blocking("set a pool's rules", move || host.firewall.enforce_one(&owner_uid, policy)).await
    }

    fn policies_in_force(&self) -> Option<Arc<BTreeMap<OwnerUid, Policy>>> {
        self.host.firewall.in_force()
    }

    async fn open_link(&self, name: &DomainName) -> Result<(), HvError> {
        let Some(link) = self.link(name).await? else { return Ok(()) };
        let (host, name) = (Arc::clone(&self.host), name.clone());
        blocking("open a link", move || links::open(&host.folder, &host.firewall, &name, &link))
            .await
    }

    async fn lease_link(&self, name: &DomainName, address: Ipv4Addr) -> Result<(), HvError> {
        let Some(link) = self.link(name).await? else { return Ok(()) };
        let (host, name) = (Arc::clone(&self.host), name.clone());
        blocking("keep a machine to its address", move || {
            host.firewall.lease(&name, &link, address)
        })
        .await
    }

    async fn close_link(&self, name: &DomainName) -> Result<(), HvError> {
        let link = match self.link(name).await {
            Err(HvError::NoSuchMachine(_)) | Ok(None) => return Ok(()),
            known => known?,
        };
        let (host, name) = (Arc::clone(&self.host), name.clone());
        blocking("close a link", move || {
            link.map_or(Ok(()), |link| host.firewall.cut_off(&name, &link))
        })
        .await
    }

    async fn traffic(&self, name: &DomainName) -> Result<Traffic, HvError> {
        let Some(link) = self.link(name).await? else { return Ok(Traffic::default()) };
        let (host, name) = (Arc::clone(&self.host), name.clone());
        blocking("read a link's counters", move || host.firewall.traffic(&name, &link)).await
    }

    fn flows(&self) -> Option<Receiver<Flow>> {
        links::flows(&self.host.firewall)
    }
}
