//! Machines that are agent processes of this host: the [`crate::Hypervisor`] of tests, with its
//! state on disk and faults on request. `host`, `goldens`, `machines`, `shares` and `links`
//! implement the five traits.
//!
//! ```text
//! <dir>/machines/<name>/{record.json, limits.json, agent.pid, ready, link, mark.json,
//!                        agent.sock, agent.log, share/{input,output,work,secrets}}
//! <dir>/goldens/<key>/{golden.json, work/}
//! ```
//! Everything stands on disk, and the processes outlive whoever started them: an operator that was
//! killed with -9 opens the same folder and finds its machines again.

mod creation;
mod faults;
mod goldens;
mod host;
mod knobs;
mod limits;
mod links;
mod machines;
mod network;
mod power;
mod process;
mod shares;
mod store;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use agentvm_core::names::{DomainName, InstanceId};
use agentvm_types::OwnerUid;

pub use faults::{Fault, Faults, Op};
pub use knobs::Knobs;
pub use network::{AppliedPolicies, Network};
use store::Store;

use crate::{HvError, MachineLimits};

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

    /// The installation of this folder, for records and derived names.
    pub fn instance(&self) -> InstanceId {
        self.store.instance()
    }

    /// Faults to inject, calls counted.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Settings for tests: tier, proofs, lies, the hook of the steps.
    pub fn knobs(&self) -> &Knobs {
        &self.store.knobs
    }

    /// The applied policies, the counted traffic, and flows to send.
    pub fn network(&self) -> &Network {
        &self.store.network
    }

    /// Whether a machine is connected.
    pub fn is_open(&self, name: &DomainName) -> bool {
        self.store.is_open(name)
    }

    /// The limits of a machine.
    pub fn limits(&self, name: &DomainName) -> Option<MachineLimits> {
        self.store.limits(name)
    }

    /// The most machines of one owner (by UID) that this process has seen to exist at once.
    pub fn peak(&self, owner_uid: &OwnerUid) -> usize {
        self.store.peak(owner_uid)
    }

    /// The host's view of a machine's share.
    pub fn share(&self, name: &DomainName) -> PathBuf {
        self.store.share(name)
    }

    /// Kills a machine's processes like a crash of QEMU; the files stay.
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
        let work = move || enough_descriptors().and_then(|()| job(&store));
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.map_err(HvError::failed(format!("{op:?}")))?;
        if unknown {
            return Err(HvError::OutcomeUnknown { what: format!("{op:?}"), seconds: 0 });
        }
        done
    }
}

/// A call needs so many descriptors.
const DESCRIPTORS: usize = 8;

/// A call begins only if this process has the descriptors for all of it. A real host has its own:
/// it never moves half of a machine because the operator has none.
fn enough_descriptors() -> Result<(), HvError> {
    let free = (0..DESCRIPTORS).map(|_| File::open("/dev/null")).collect::<Result<Vec<_>, _>>();
    free.map(drop).map_err(|source| HvError::Io { what: "reach the host".to_owned(), source })
}

/// Ends all machines of a fake when it goes out of scope.
#[derive(Debug)]
pub struct DestroyAll(Arc<Store>);

impl Drop for DestroyAll {
    fn drop(&mut self) {
        self.0.destroy_all();
    }
}
