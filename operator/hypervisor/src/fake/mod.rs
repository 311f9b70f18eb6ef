//! Machines that are agent processes of this host: the [`Hypervisor`] of tests, with its state on disk and faults on request.
//!
//! ```text
//! <dir>/machines/<name>/{record.json, limits.json, agent.pid, ready, link, mark.json, agent.sock, agent.log, share/{input,output,work,secrets}}
//! <dir>/goldens/<key>/{golden.json, work/}
//! ```
//! Everything stands on disk, and the processes outlive whoever started them: an operator that was killed with -9 opens the
//! same folder and finds its machines again.

mod faults;
mod golden;
mod knobs;
mod limits;
mod links;
mod making;
mod network;
mod power;
mod process;
mod store;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentvm_core::names::{DomainName, GoldenKey, InstanceId};
use agentvm_core::network::{Flow, Mac, Policy, Subnet};
use ipnet::IpNet;
use tokio::sync::mpsc::Receiver;

pub use faults::{Fault, Faults, Op};
pub use knobs::Knobs;
pub use network::{Network, Policed};
use store::Store;

use crate::workspace::collect;
use crate::{
    Channel, CollectSpec, Collected, Golden, HostFacts, HvError, Hypervisor, InputFile, Machine,
    MachineLimits, MachineSpec, Mark, PowerState, Proof, Stop, TemplateSpec, Tiers, Traffic, Usage,
};

/// A host whose machines are processes.
#[derive(Clone, Debug)]
pub struct FakeHypervisor {
    store: Arc<Store>,
    faults: Arc<Faults>,
}

impl FakeHypervisor {
    /// `dir` is made when it is missing; `agent_binary` is `agentvm-guest`.
    pub fn open(dir: impl Into<PathBuf>, agent_binary: PathBuf) -> Self {
        Self {
            store: Arc::new(Store::new(dir.into(), agent_binary, Arc::default())),
            faults: Arc::default(),
        }
    }

    /// The installation that this folder is: what belongs into records and derived names.
    pub fn instance(&self) -> InstanceId {
        self.store.instance()
    }

    /// Faults to inject, calls counted.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What may be turned: tier, proofs, lies, the hook of the steps.
    pub fn knobs(&self) -> &Knobs {
        &self.store.knobs
    }

    /// What was said of the network, what is counted of it, and flows to send.
    pub fn network(&self) -> &Network {
        &self.store.network
    }

    /// Whether a machine is connected.
    pub fn is_open(&self, name: &DomainName) -> bool {
        self.store.is_open(name)
    }

    /// What a machine is held to.
    pub fn limits(&self, name: &DomainName) -> Option<MachineLimits> {
        self.store.limits(name)
    }

    /// The most machines of one owner (by UID) that this process has seen to exist at once.
    pub fn peak(&self, owner_uid: &str) -> usize {
        self.store.peak(owner_uid)
    }

    /// The host's view of a machine's share.
    pub fn share(&self, name: &DomainName) -> PathBuf {
        self.store.share(name)
    }

    /// Kills a machine's processes as a crash of QEMU would; what is on disk stays.
    pub fn kill_machine(&self, name: &DomainName) -> Result<(), HvError> {
        self.store.kill(name)
    }

    /// Ends all machines and removes them, for the end of a test.
    pub fn destroy_all(&self) {
        self.store.destroy_all();
    }

    /// Calls [`Self::destroy_all`] when it is dropped.
    pub fn guard(&self) -> DestroyAll {
        DestroyAll(Arc::clone(&self.store))
    }

    /// One call: fault before, the work on a thread where it may block, fault after.
    async fn call<T: Send + 'static>(
        &self,
        op: Op,
        job: impl FnOnce(&Store) -> Result<T, HvError> + Send + 'static,
    ) -> Result<T, HvError> {
        let fault = self.faults.take(op);
        match fault {
            Some(Fault::Fail(error)) => return Err(error),
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::DoneButUnknown) | None => {}
        }
        let unknown = matches!(fault, Some(Fault::DoneButUnknown));
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || job(&store)).await.map_err(|e| {
            HvError::Refused {
                what: format!("{op:?}"),
                detail: format!("the fake's thread ended: {e}"),
            }
        })?;
        if unknown {
            return Err(HvError::OutcomeUnknown { what: format!("{op:?}"), seconds: 0 });
        }
        done
    }
}

/// Ends all machines of a fake when it goes out of scope.
#[derive(Debug)]
pub struct DestroyAll(Arc<Store>);

impl Drop for DestroyAll {
    fn drop(&mut self) {
        self.0.destroy_all();
    }
}

#[async_trait::async_trait]
impl Hypervisor for FakeHypervisor {
    async fn facts(&self) -> Result<HostFacts, HvError> {
        self.call(Op::Facts, |_| Ok(store::facts())).await
    }

    async fn health(&self) -> Result<(), HvError> {
        self.call(Op::Health, |_| Ok(())).await
    }

    async fn boot_template(&self, spec: &TemplateSpec) -> Result<(), HvError> {
        let spec = spec.clone();
        self.call(Op::BootTemplate, move |store| store.boot_template(&spec)).await
    }

    async fn capture(&self, template: &DomainName, guest: &str) -> Result<Golden, HvError> {
        let (template, guest) = (template.clone(), guest.to_owned());
        self.call(Op::Capture, move |store| store.capture(&template, &guest)).await
    }

    async fn tiers(&self, golden: &GoldenKey) -> Result<Tiers, HvError> {
        let golden = golden.clone();
        let tested = move |store: &Store| {
            let there = store.golden(&golden).join("golden.json").exists();
            there.then(|| store.knobs.tiers()).ok_or(HvError::NoSuchGolden(golden))
        };
        self.call(Op::Tiers, tested).await
    }

    async fn reset(&self, spec: &MachineSpec) -> Result<Proof, HvError> {
        let spec = spec.clone();
        self.call(Op::Reset, move |store| store.reset(&spec)).await
    }

    async fn park(&self, name: &DomainName, evidence: &str) -> Result<(), HvError> {
        let (name, mark) = (name.clone(), Mark::Parked { evidence: evidence.to_owned() });
        self.call(Op::Park, move |store| store.set_mark(&name, &mark)).await
    }

    async fn quarantine(&self, name: &DomainName, until: i64, why: &str) -> Result<(), HvError> {
        let (name, mark) = (name.clone(), Mark::Quarantined { until, why: why.to_owned() });
        self.call(Op::Quarantine, move |store| store.set_mark(&name, &mark)).await
    }

    async fn usage(&self, name: &DomainName) -> Result<Usage, HvError> {
        let name = name.clone();
        self.call(Op::Usage, move |store| store.usage(&name)).await
    }

    async fn goldens(&self) -> Result<Vec<Golden>, HvError> {
        self.call(Op::Goldens, |store| Ok(store.goldens())).await
    }

    async fn remove_golden(&self, key: &GoldenKey) -> Result<(), HvError> {
        let key = key.clone();
        self.call(Op::RemoveGolden, move |store| store.remove_golden(&key)).await
    }

    async fn create(&self, spec: &MachineSpec) -> Result<(), HvError> {
        let spec = spec.clone();
        self.call(Op::Create, move |store| store.create(&spec)).await
    }

    async fn relimit(
        &self,
        name: &DomainName,
        limits: &MachineLimits,
    ) -> Result<Option<String>, HvError> {
        let (name, limits) = (name.clone(), *limits);
        self.call(Op::Relimit, move |store| store.relimit(&name, &limits)).await
    }

    async fn resume(&self, name: &DomainName) -> Result<(), HvError> {
        let name = name.clone();
        self.call(Op::Resume, move |store| store.resume(&name)).await
    }

    async fn pause(&self, name: &DomainName) -> Result<(), HvError> {
        let name = name.clone();
        self.call(Op::Pause, move |store| store.set_paused(&name, true)).await
    }

    async fn state(&self, name: &DomainName) -> Result<PowerState, HvError> {
        let name = name.clone();
        self.call(Op::State, move |store| Ok(store.state(&name))).await
    }

    async fn destroy(&self, name: &DomainName, _: Stop) -> Result<(), HvError> {
        let name = name.clone();
        self.call(Op::Destroy, move |store| store.destroy(&name)).await
    }

    async fn list(&self) -> Result<Vec<Machine>, HvError> {
        self.call(Op::List, |store| Ok(store.list())).await
    }

    async fn connect(&self, name: &DomainName) -> Result<Channel, HvError> {
        let wanted = name.clone();
        let socket = self.call(Op::Connect, move |store| store.socket(&wanted)).await?;
        let stream = tokio::net::UnixStream::connect(&socket).await;
        let stream = stream.map_err(|source| HvError::Io {
            what: format!("connect to {}", socket.display()),
            source,
        })?;
        Ok(Box::new(stream))
    }

    async fn put_input(&self, name: &DomainName, files: Vec<InputFile>) -> Result<(), HvError> {
        let name = name.clone();
        self.call(Op::PutInput, move |store| store.put_input(&name, &files)).await
    }

    async fn collect(
        &self,
        name: &DomainName,
        spec: &CollectSpec,
        into: &Path,
    ) -> Result<Collected, HvError> {
        let (name, spec, into) = (name.clone(), spec.clone(), into.to_owned());
        self.call(Op::Collect, move |store| {
            collect::collect(&store.existing_share(&name)?, &spec, &into)
        })
        .await
    }

    async fn subnet(&self) -> Result<Subnet, HvError> {
        self.call(Op::Subnet, |store| Ok(store.network.subnet())).await
    }

    async fn ipv6(&self) -> Result<(), HvError> {
        self.call(Op::Ipv6, |_| Ok(())).await
    }

    fn gateway_mac(&self) -> Mac {
        network::gateway_mac()
    }

    async fn police(
        &self,
        policies: BTreeMap<String, Policy>,
        never: Vec<IpNet>,
    ) -> Result<(), HvError> {
        self.call(Op::Police, move |store| store.police(policies, never)).await
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

    async fn sweep(&self) -> Result<Vec<String>, HvError> {
        self.call(Op::Sweep, Store::sweep).await
    }
}
