//! Machines as libvirt domains.
//!
//! ```text
//! Hypervisor ─► Lane (threads, one connection each) ─► template · capture · clone · reset · machine · sweep ─► domain · qmp · disk
//! ```
//! There are three lanes: making and ending machines takes long and may fill its threads; resetting one never waits behind that, and
//! resuming one for a claim behind neither. The control channel is a virtio-serial port bound to a unix socket in the machine's folder.

mod accelerator;
mod acl;
mod baseline;
mod baseline_xml;
mod capture;
mod channel;
mod clone;
mod config;
mod digest;
mod disk;
mod domain;
mod domain_xml;
mod elements;
mod facts;
mod filter;
mod filter_xml;
mod golden;
mod host;
mod image;
mod interface_xml;
mod layout;
mod library;
mod limits;
mod links;
mod machine;
mod marks;
mod metadata;
mod network;
mod network_xml;
mod observe;
mod preload;
mod process;
mod process_limits;
mod proof;
mod qemu_user;
mod qmp;
mod reset;
mod self_test;
mod slot_user;
mod start;
mod sweep;
mod template;
mod tiers;
mod worker;
mod xml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentvm_core::names::{DomainName, GoldenKey};
use agentvm_core::network::{Flow, Link, Mac, Policy, Subnet};
use ipnet::IpNet;
use tokio::sync::mpsc::Receiver;
use virt::connect::Connect;

#[cfg(test)]
pub(crate) fn example_record() -> crate::MachineRecord {
    metadata::tests::record("pool")
}

pub use accelerator::boots as boots_with_kvm;
pub use baseline::Baseline;
use channel::Channels;
#[doc(hidden)]
pub use config::Sabotage;
pub use config::{LibvirtConfig, LibvirtFilter};
use host::Host;
pub use preload::find_preload;
use worker::{Lane, Wanted};

use crate::workspace::{collect, share};
use crate::{
    Channel, CollectSpec, Collected, Golden, HostFacts, HvError, Hypervisor, InputFile, Machine, MachineLimits,
    MachineSpec, PowerState, Proof, Stop, TemplateSpec, Tiers, Traffic, Usage,
};

/// Threads that serve claims: resume, pause, state, list, health.
const CLAIM_WORKERS: usize = 2;

/// Threads that reset machines, and change their limits.
const RESET_WORKERS: usize = 2;

/// The host's libvirt.
#[derive(Clone, Debug)]
pub struct Libvirt {
    host: Arc<Host>,
    builds: Arc<Lane>,
    resets: Arc<Lane>,
    claims: Arc<Lane>,
    channels: Arc<Channels>,
}

impl Libvirt {
    /// Prepares the state directory and waits until libvirt answers, at most `connect_timeout`.
    pub async fn connect(config: LibvirtConfig) -> Result<Self, HvError> {
        let (uri, workers, within) = (config.uri.clone(), config.workers, config.connect_timeout);
        let host = blocking("prepare the state directory", move || Host::prepare(config)).await?;
        let lane = |name, threads| {
            let started = Lane::start(name, &uri, threads).map(Arc::new);
            started.map_err(|source| HvError::Io { what: "start the libvirt threads".to_owned(), source })
        };
        let (builds, resets, claims) =
            (lane("build", workers)?, lane("reset", RESET_WORKERS)?, lane("claim", CLAIM_WORKERS)?);
        let libvirt = Self { host: Arc::new(host), builds, resets, claims, channels: Arc::default() };
        libvirt.wait_healthy(within).await?;
        Ok(libvirt)
    }

    async fn wait_healthy(&self, within: Duration) -> Result<(), HvError> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            match self.health().await {
                Err(e) if e.is_transient() && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                done => return done,
            }
        }
    }

    /// Where this installation keeps its files.
    pub fn state_dir(&self) -> &Path {
        self.host.layout.root()
    }

    /// Waits until a machine's state satisfies `wanted`; the last state when it does, an error when `within` has passed.
    pub async fn wait_for(
        &self,
        name: &DomainName,
        within: Duration,
        wanted: impl Fn(&PowerState) -> bool + Send,
    ) -> Result<PowerState, HvError> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let state = self.state(name).await?;
            if wanted(&state) {
                return Ok(state);
            }
            if tokio::time::Instant::now() > deadline {
                let what = format!("the wait for machine {name}, which is {state:?},");
                return Err(HvError::OutcomeUnknown { what, seconds: within.as_secs() });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Gives back what the state directory holds of the host besides files: mounts, and where no machine is left its network. For the end
    /// of a test or an uninstall.
    pub async fn release(&self) {
        if let Err(error) =
            self.build("remove the machines' network", self.host.config.start_timeout, links::release).await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "the machines' network stays");
        }
        let host = Arc::clone(&self.host);
        let _ = blocking("release the state directory", move || {
            share::stop_propagating(&host.layout.machines());
            Ok(())
        })
        .await;
    }

    async fn build<T: Send + 'static>(
        &self,
        what: &str,
        deadline: Duration,
        job: impl FnOnce(&Host, &Connect) -> Result<T, HvError> + Send + 'static,
    ) -> Result<T, HvError> {
        let host = Arc::clone(&self.host);
        self.builds.call(what, deadline, move |conn, _| job(&host, conn)).await
    }

    /// As [`Self::build`], for jobs that wait for others first and mustn't begin when nobody waits for them any more.
    async fn build_if<T: Send + 'static>(
        &self,
        what: &str,
        deadline: Duration,
        job: impl FnOnce(&Host, &Connect, Wanted<'_>) -> Result<T, HvError> + Send + 'static,
    ) -> Result<T, HvError> {
        let host = Arc::clone(&self.host);
        self.builds.call(what, deadline, move |conn, wanted| job(&host, conn, wanted)).await
    }

    async fn claim<T: Send + 'static>(
        &self,
        what: &str,
        job: impl FnOnce(&Host, &Connect) -> Result<T, HvError> + Send + 'static,
    ) -> Result<T, HvError> {
        let host = Arc::clone(&self.host);
        self.claims.call(what, self.host.config.call_timeout, move |conn, _| job(&host, conn)).await
    }

    /// `None`: the machine has no network device. libvirt is asked only for one that this process hasn't seen yet.
    async fn link(&self, name: &DomainName) -> Result<Option<Link>, HvError> {
        if self.host.firewall.knows(name) {
            return Ok(self.host.firewall.link(name));
        }
        let wanted = name.clone();
        self.claim("look for a machine's network device", move |host, conn| links::look(host, conn, &wanted)).await
    }

    fn share(&self, name: &DomainName) -> Result<PathBuf, HvError> {
        let share = self.host.layout.machine(name).share();
        if share.is_dir() { Ok(share) } else { Err(HvError::NoSuchMachine(name.clone())) }
    }
}

/// File work, off the runtime.
async fn blocking<T: Send + 'static>(
    what: &str,
    job: impl FnOnce() -> Result<T, HvError> + Send + 'static,
) -> Result<T, HvError> {
    let done = tokio::task::spawn_blocking(job).await;
    done.map_err(|e| HvError::Refused { what: what.to_owned(), detail: format!("its thread ended: {e}") })?
}

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
        self.build("boot a template", within, move |host, conn| template::boot(host, conn, &spec)).await
    }

    async fn capture(&self, template: &DomainName, guest: &str) -> Result<Golden, HvError> {
        let (name, guest, within) = (template.clone(), guest.to_owned(), self.host.config.capture_timeout);
        self.build("capture a golden", within, move |host, conn| capture::capture(host, conn, &name, &guest)).await
    }

    async fn tiers(&self, golden: &GoldenKey) -> Result<Tiers, HvError> {
        let (key, within) = (golden.clone(), self.host.config.capture_timeout);
        self.build("test the ways to reset", within, move |host, conn| tiers::get(host, conn, &key)).await
    }

    async fn reset(&self, spec: &MachineSpec) -> Result<Proof, HvError> {
        // Before the device state is loaded: what the incarnation that ends still says is for nobody.
        self.channels.close(&spec.record.name);
        let (host, spec) = (Arc::clone(&self.host), spec.clone());
        let (within, sabotage) = (self.host.config.start_timeout, self.host.config.sabotage);
        let job = move |conn: &Connect, wanted: Wanted<'_>| reset::reset(&host, conn, &spec, sabotage, wanted);
        self.resets.call("reset a machine", within, job).await
    }

    async fn park(&self, name: &DomainName, evidence: &str) -> Result<(), HvError> {
        let (name, evidence) = (name.clone(), evidence.to_owned());
        self.claim("park a machine", move |host, conn| machine::park(host, conn, &name, &evidence)).await
    }

    async fn quarantine(&self, name: &DomainName, until: i64, why: &str) -> Result<(), HvError> {
        let (name, why) = (name.clone(), why.to_owned());
        let job = move |host: &Host, conn: &Connect| machine::quarantine(host, conn, &name, until, &why);
        self.claim("quarantine a machine", job).await
    }

    async fn usage(&self, name: &DomainName) -> Result<Usage, HvError> {
        let (host, name) = (Arc::clone(&self.host), name.clone());
        blocking("look at a machine's memory", move || machine::usage(&host, &name)).await
    }

    async fn goldens(&self) -> Result<Vec<Golden>, HvError> {
        let host = Arc::clone(&self.host);
        blocking("list the goldens", move || Ok(golden::list(&host))).await
    }

    async fn remove_golden(&self, key: &GoldenKey) -> Result<(), HvError> {
        let (host, key) = (Arc::clone(&self.host), key.clone());
        blocking("remove a golden", move || golden::remove(&host, &key)).await
    }

    async fn create(&self, spec: &MachineSpec) -> Result<(), HvError> {
        let (spec, within) = (spec.clone(), self.host.config.start_timeout);
        let job = move |host: &Host, conn: &Connect, wanted: Wanted<'_>| clone::create(host, conn, &spec, wanted);
        self.build_if("create a machine", within, job).await
    }

    async fn relimit(&self, name: &DomainName, limits: &MachineLimits) -> Result<Option<String>, HvError> {
        let (host, name, limits) = (Arc::clone(&self.host), name.clone(), *limits);
        let within = self.host.config.call_timeout;
        let job = move |conn: &Connect, wanted: Wanted<'_>| machine::relimit(&host, conn, &name, &limits, wanted);
        self.resets.call("change a machine's limits", within, job).await
    }

    async fn resume(&self, name: &DomainName) -> Result<(), HvError> {
        let (host, name, within) = (Arc::clone(&self.host), name.clone(), self.host.config.call_timeout);
        let job = move |conn: &Connect, wanted: Wanted<'_>| machine::resume(&host, conn, &name, wanted);
        self.claims.call("resume a machine", within, job).await
    }

    async fn pause(&self, name: &DomainName) -> Result<(), HvError> {
        let name = name.clone();
        self.claim("pause a machine", move |host, conn| machine::pause(host, conn, &name)).await
    }

    async fn state(&self, name: &DomainName) -> Result<PowerState, HvError> {
        let name = name.clone();
        self.claim("ask for a machine's state", move |host, conn| observe::state(host, conn, &name)).await
    }

    async fn destroy(&self, name: &DomainName, how: Stop) -> Result<(), HvError> {
        let (name, within) = (name.clone(), self.host.config.stop_timeout + self.host.config.start_timeout);
        let job =
            move |host: &Host, conn: &Connect, wanted: Wanted<'_>| machine::destroy(host, conn, &name, how, wanted);
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
        blocking("put input", move || machine::put_input(&host, &name, &files)).await
    }

    async fn collect(&self, name: &DomainName, spec: &CollectSpec, into: &Path) -> Result<Collected, HvError> {
        let (share, spec, into) = (self.share(name)?, spec.clone(), into.to_owned());
        blocking("collect output", move || collect::collect(&share, &spec, &into)).await
    }

    async fn subnet(&self) -> Result<Subnet, HvError> {
        let ours = self.build("make the machines' network", self.host.config.start_timeout, network::ensure).await?;
        Ok(ours.subnet)
    }

    async fn ipv6(&self) -> Result<(), HvError> {
        self.build("route IPv6 for machines", self.host.config.start_timeout, network::ensure_ipv6).await
    }

    fn gateway_mac(&self) -> Mac {
        self.host.firewall.gateway_mac()
    }

    async fn police(&self, policies: BTreeMap<String, Policy>, never: Vec<IpNet>) -> Result<(), HvError> {
        let within = self.host.config.start_timeout;
        self.build("set the network's rules", within, move |host, conn| links::police(host, conn, policies, &never))
            .await
    }

    async fn open_link(&self, name: &DomainName) -> Result<(), HvError> {
        let Some(link) = self.link(name).await? else { return Ok(()) };
        let (host, name) = (Arc::clone(&self.host), name.clone());
        blocking("open a link", move || links::open(&host, &name, &link)).await
    }

    async fn close_link(&self, name: &DomainName) -> Result<(), HvError> {
        let link = match self.link(name).await {
            Err(HvError::NoSuchMachine(_)) | Ok(None) => return Ok(()),
            known => known?,
        };
        let (host, name) = (Arc::clone(&self.host), name.clone());
        blocking("close a link", move || link.map_or(Ok(()), |link| host.firewall.close(&name, &link))).await
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
