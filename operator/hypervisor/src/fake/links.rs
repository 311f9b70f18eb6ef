//! Links of the fake: a machine is connected while a file stands in its folder.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;

use agentvm_core::names::DomainName;
use agentvm_core::network::{Flow, Mac, Policy, Subnet, derive_mac};
use agentvm_types::OwnerUid;
use ipnet::IpNet;
use tokio::sync::mpsc::Receiver;

use super::network::AppliedPolicies;
use super::store::Store;
use super::{FakeHypervisor, Op};
use crate::files::{io, write_json};
use crate::{HvError, LinkApi, RefusedPolicies, Traffic};

#[async_trait::async_trait]
impl LinkApi for FakeHypervisor {
    async fn subnet(&self) -> Result<Subnet, HvError> {
        self.call(Op::Subnet, |store| Ok(store.network.subnet())).await
    }

    async fn ipv6(&self) -> Result<(), HvError> {
        self.call(Op::Ipv6, |_| Ok(())).await
    }

    fn gateway_mac(&self) -> Mac {
        derive_mac(&["gateway", "fake"])
    }

    async fn apply_policies(
        &self,
        policies: BTreeMap<OwnerUid, Policy>,
        deny_list: Vec<IpNet>,
    ) -> Result<RefusedPolicies, HvError> {
        let kept = move |store: &Store| store.keep_policies(policies, deny_list);
        self.call(Op::ApplyPolicies, kept).await.map(|()| RefusedPolicies::new())
    }

    async fn apply_policy(
        &self,
        owner_uid: &OwnerUid,
        policy: Option<Policy>,
    ) -> Result<(), HvError> {
        let owner_uid = owner_uid.clone();
        self.call(Op::ApplyPolicies, move |store| store.keep_policy(&owner_uid, policy)).await
    }

    fn policies_in_force(&self) -> Option<Arc<BTreeMap<OwnerUid, Policy>>> {
        self.store.network.applied().map(|applied| Arc::new(applied.policies))
    }

    async fn open_link(&self, name: &DomainName) -> Result<(), HvError> {
        let name = name.clone();
        self.call(Op::OpenLink, move |store| store.open_link(&name)).await
    }

    async fn lease_link(&self, name: &DomainName, address: Ipv4Addr) -> Result<(), HvError> {
        let name = name.clone();
        self.call(Op::LeaseLink, move |store| store.lease_link(&name, address)).await
    }

    async fn close_link(&self, name: &DomainName) -> Result<(), HvError> {
        let name = name.clone();
        self.call(Op::CloseLink, move |store| store.close_link(&name)).await
    }

    async fn traffic(&self, name: &DomainName) -> Result<Traffic, HvError> {
        let name = name.clone();
        self.call(Op::Traffic, move |store| store.traffic(&name)).await
    }

    fn flows(&self) -> Option<Receiver<Flow>> {
        self.store.network.flows()
    }
}

impl Store {
    /// Like libvirt's: it closes the links of owners without a policy.
    pub fn keep_policies(
        &self,
        policies: BTreeMap<OwnerUid, Policy>,
        deny_list: Vec<IpNet>,
    ) -> Result<(), HvError> {
        for machine in self
            .list()
            .into_iter()
            .filter(|machine| !policies.contains_key(&machine.record.owner_uid))
        {
            self.close_link(&machine.record.name)?;
        }
        self.network.apply(AppliedPolicies { policies, deny_list });
        Ok(())
    }

    pub fn keep_policy(&self, owner_uid: &OwnerUid, policy: Option<Policy>) -> Result<(), HvError> {
        let AppliedPolicies { mut policies, deny_list } =
            self.network.applied().unwrap_or_default();
        match policy {
            Some(policy) => policies.insert(owner_uid.clone(), policy),
            None => policies.remove(owner_uid),
        };
        self.keep_policies(policies, deny_list)
    }

    pub fn open_link(&self, name: &DomainName) -> Result<(), HvError> {
        let kept = self.kept(name).ok_or_else(|| HvError::NoSuchMachine(name.clone()))?;
        if kept.record.nic.is_none() {
            return Ok(());
        }
        if !self.network.has_policy_of(&kept.record.owner_uid) {
            let detail = format!("there is no policy of its owner {} yet", kept.record.owner);
            return Err(HvError::NetworkUnavailable {
                what: format!("connect machine {name}"),
                detail,
            });
        }
        if !self.is_open(name) {
            self.network.begin_counts(name);
        }
        write_json(&self.link_file(name), &())
    }

    /// Every address that an agent names was heard of.
    pub fn lease_link(&self, name: &DomainName, address: Ipv4Addr) -> Result<(), HvError> {
        self.kept(name).ok_or_else(|| HvError::NoSuchMachine(name.clone()))?;
        if !self.is_open(name) {
            let what = format!("have machine {name} speak with the address {address}");
            return Err(HvError::NetworkUnavailable {
                what,
                detail: "it is not connected".to_owned(),
            });
        }
        write_json(&self.link_file(name), &address)
    }

    pub fn close_link(&self, name: &DomainName) -> Result<(), HvError> {
        let path = self.link_file(name);
        match fs::remove_file(&path) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(io("remove", &path)(why)),
            _ => Ok(()),
        }
    }

    pub fn is_open(&self, name: &DomainName) -> bool {
        self.link_file(name).exists()
    }

    pub fn traffic(&self, name: &DomainName) -> Result<Traffic, HvError> {
        self.kept(name).ok_or_else(|| HvError::NoSuchMachine(name.clone()))?;
        Ok(self.network.traffic(name))
    }

    /// On disk, as a tap outlives the operator.
    fn link_file(&self, name: &DomainName) -> std::path::PathBuf {
        self.machine(name).join("link")
    }
}
