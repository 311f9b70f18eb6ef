//! What may be asked of a host, each as a job on a lane of libvirt's or as file work.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use agentvm_core::names::{DomainName, GoldenKey};
use agentvm_core::network::{Flow, Mac, Policy, Subnet};
use ipnet::IpNet;
use tokio::sync::mpsc::Receiver;
use virt::connect::Connect;

use super::connection::domain;
use super::connection::lanes::Wanted;
use super::golden::{capture, template};
use super::handle::{Libvirt, blocking};
use super::host::state::Host;
use super::host::{facts, nat_network};
use super::machine::{create, links, observe, power, sweep};
use super::reset::{in_place, tiers};
use super::store::goldens;
use crate::workspace::collect;
use crate::{
    Channel, CollectSpec, Collected, Golden, HostFacts, HvError, Hypervisor, InputFile, Machine,
    MachineLimits, MachineSpec, PowerState, Proof, Stop, TemplateSpec, Tiers, Traffic, Usage,
};

#[async_trait::async_trait]
impl Hypervisor for Libvirt {
    async fn facts(&self) -> Result<HostFacts, HvError> {
        self.build("look at the host", self.host.config.start_timeout, facts::get).await
    }

    async fn health(&self) -> Result<(), HvError> {
        self.claim("ask libvirt for its health", |_, conn| {
            conn.lib_version().map(drop).map_err(domain::refused("ask libvirt for its version"))
        })
        .await
    }

    async fn boot_template(&self, spec: &TemplateSpec) -> Result<(), HvError> {
        let (spec, within) = (spec.clone(), self.host.config.start_timeout);
        self.build("boot a template", within, move |host, conn| template::boot(host, conn, &spec))
            .await
    }

    async fn capture(&self, template: &DomainName, guest: &str) -> Result<Golden, HvError> {
        let (name, guest, within) =
            (template.clone(), guest.to_owned(), self.host.config.capture_timeout);
        self.build("capture a golden", within, move |host, conn| {
            capture::capture(host, conn, &name, &guest)
        })
        .await
    }

    async fn tiers(&self, golden: &GoldenKey) -> Result<Tiers, HvError> {
        let (key, within) = (golden.clone(), self.host.config.capture_timeout);
        self.build("test the ways to reset", within, move |host, conn| tiers::get(host, conn, &key))
            .await
    }

    async fn reset(&self, spec: &MachineSpec) -> Result<Proof, HvError> {
        // Before the device state is loaded: what the incarnation that ends still says is for nobody.
        self.channels.close(&spec.record.name);
        let (host, spec) = (Arc::clone(&self.host), spec.clone());
        let (within, sabotage) = (self.host.config.start_timeout, self.host.config.sabotage);
        let job = move |conn: &Connect, wanted: Wanted<'_>| {
            in_place::reset(&host, conn, &spec, sabotage, wanted)
        };
        self.resets.call("reset a machine", within, job).await
    }

    async fn park(&self, name: &DomainName, evidence: &str) -> Result<(), HvError> {
        let (name, evidence) = (name.clone(), evidence.to_owned());
        self.claim("park a machine", move |host, conn| power::park(host, conn, &name, &evidence))
            .await
    }

    async fn quarantine(&self, name: &DomainName, until: i64, why: &str) -> Result<(), HvError> {
        let (name, why) = (name.clone(), why.to_owned());
        let job =
            move |host: &Host, conn: &Connect| power::quarantine(host, conn, &name, until, &why);
        self.claim("quarantine a machine", job).await
    }

    async fn usage(&self, name: &DomainName) -> Result<Usage, HvError> {
        let (host, name) = (Arc::clone(&self.host), name.clone());
        blocking("look at a machine's memory", move || power::usage(&host, &name)).await
    }

    async fn goldens(&self) -> Result<Vec<Golden>, HvError> {
        let host = Arc::clone(&self.host);
        blocking("list the goldens", move || Ok(goldens::list(&host))).await
    }

    async fn remove_golden(&self, key: &GoldenKey) -> Result<(), HvError> {
        let (host, key) = (Arc::clone(&self.host), key.clone());
        blocking("remove a golden", move || goldens::remove(&host, &key)).await
    }

    async fn create(&self, spec: &MachineSpec) -> Result<(), HvError> {
        let (spec, within) = (spec.clone(), self.host.config.start_timeout);
        let job = move |host: &Host, conn: &Connect, wanted: Wanted<'_>| {
            create::create(host, conn, &spec, wanted)
        };
        self.build_if("create a machine", within, job).await
    }

    async fn relimit(
        &self,
        name: &DomainName,
        limits: &MachineLimits,
    ) -> Result<Option<String>, HvError> {
        let (host, name, limits) = (Arc::clone(&self.host), name.clone(), *limits);
        let within = self.host.config.call_timeout;
        let job = move |conn: &Connect, wanted: Wanted<'_>| {
            power::relimit(&host, conn, &name, &limits, wanted)
        };
        self.resets.call("change a machine's limits", within, job).await
    }

    async fn resume(&self, name: &DomainName) -> Result<(), HvError> {
        let (host, name, within) =
            (Arc::clone(&self.host), name.clone(), self.host.config.call_timeout);
        let job =
            move |conn: &Connect, wanted: Wanted<'_>| power::resume(&host, conn, &name, wanted);
        self.claims.call("resume a machine", within, job).await
    }

    async fn pause(&self, name: &DomainName) -> Result<(), HvError> {
        let name = name.clone();
        self.claim("pause a machine", move |host, conn| power::pause(host, conn, &name)).await
    }

    async fn state(&self, name: &DomainName) -> Result<PowerState, HvError> {
        let name = name.clone();
        self.claim("ask for a machine's state", move |host, conn| observe::state(host, conn, &name))
            .await
    }

    async fn destroy(&self, name: &DomainName, how: Stop) -> Result<(), HvError> {
        let (name, within) =
            (name.clone(), self.host.config.stop_timeout + self.host.config.start_timeout);
        let job = move |host: &Host, conn: &Connect, wanted: Wanted<'_>| {
            power::destroy(host, conn, &name, how, wanted)
        };
        self.build_if("destroy a machine", within, job).await
    }

    async fn list(&self) -> Result<Vec<Machine>, HvError> {
        self.claim("list the machines", observe::list).await
    }

    async fn connect(&self, name: &DomainName) -> Result<Channel, HvError> {
        self.channels.open(name, &self.host.layout.machine(name).channel()).await
    }

    async fn put_input(&self, name: &DomainName, files: Vec<InputFile>) -> Result<(), HvError> {
        let (host, name) = (Arc::clone(&self.host), name.clone());
        blocking("put input", move || power::put_input(&host, &name, &files)).await
    }

    async fn collect(
        &self,
        name: &DomainName,
        spec: &CollectSpec,
        into: &Path,
    ) -> Result<Collected, HvError> {
        let (share, spec, into) = (self.share(name)?, spec.clone(), into.to_owned());
        blocking("collect output", move || collect::collect(&share, &spec, &into)).await
    }

    async fn subnet(&self) -> Result<Subnet, HvError> {
        let ours = self
            .build(
                "make the machines' network",
                self.host.config.start_timeout,
                nat_network::ensure,
            )
            .await?;
        Ok(ours.subnet)
    }

    async fn ipv6(&self) -> Result<(), HvError> {
        self.build(
            "route IPv6 for machines",
            self.host.config.start_timeout,
            nat_network::ensure_ipv6,
        )
        .await
    }

    fn gateway_mac(&self) -> Mac {
        self.host.firewall.gateway_mac()
    }

    async fn police(
        &self,
        policies: BTreeMap<String, Policy>,
        never: Vec<IpNet>,
    ) -> Result<(), HvError> {
        let within = self.host.config.start_timeout;
        self.build("set the network's rules", within, move |host, conn| {
            links::police(host, conn, policies, &never)
        })
        .await
    }

    async fn open_link(&self, name: &DomainName) -> Result<(), HvError> {
        let Some(link) = self.link(name).await? else { return Ok(()) };
        let (host, name) = (Arc::clone(&self.host), name.clone());
        blocking("open a link", move || links::open(&host, &name, &link)).await
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
            link.map_or(Ok(()), |link| host.firewall.close(&name, &link))
        })
        .await
    }

    async fn traffic(&self, name: &DomainName) -> Result<Traffic, HvError> {
        let Some(link) = self.link(name).await? else { return Ok(Traffic::default()) };
        let (host, name) = (Arc::clone(&self.host), name.clone());
        blocking("read a link's counters", move || host.firewall.traffic(&name, &link)).await
    }

    fn flows(&self) -> Option<Receiver<Flow>> {
        links::flows(&self.host)
    }

    async fn sweep(&self) -> Result<Vec<String>, HvError> {
        self.build("sweep", self.host.config.capture_timeout, sweep::sweep).await
    }
}
