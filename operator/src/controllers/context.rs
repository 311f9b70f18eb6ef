//! The context that every controller has: the API, this node's machines and goldens, the caches of
//! the three kinds, the clock, and plain settings.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agentvm_core::{
    defaults::Defaults,
    node::{Nodes, Standing},
    pool::{Budget, DiskLimits, DiskState},
    status::Decided,
};
use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot};
use agentvm_types::{NodeId, NodeName};
use futures::channel::mpsc::UnboundedSender;
use jiff::Timestamp;
use kube::{
    Client, Resource,
    core::DeserializeGuard,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::sync::watch;

use super::{
    events::Recorder, failures::Failures, host::HostState, lines::Lines, pool::NodeRoom,
    write_times::WriteTimes,
};
use crate::{
    clock::Clock,
    goldens::Goldens,
    machines::{self, Machines},
    metrics::Metrics,
    node::marker::Marker,
};

/// An object that may be malformed: it doesn't stop the watch of the others.
pub type Guarded<K> = DeserializeGuard<K>;

/// The caches of the three kinds.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "caches hold whatever users wrote")]
pub struct Caches {
    pub runs: Store<Guarded<AgentRun>>,
    pub pools: Store<Guarded<AgentVMPool>>,
    pub snapshots: Store<Guarded<GoldenSnapshot>>,
}

/// The shortest delay of a reconcile.
const MOMENT: Duration = Duration::from_millis(50);

/// Shared by all reconciles.
pub struct Context {
    pub client: Client,
    pub node: NodeName,
    pub node_id: NodeId,
    /// Defaults without the facts of this host: see [`Context::defaults`].
    pub(super) configured: Defaults,
    pub disk_limits: DiskLimits,
    pub disk: watch::Receiver<DiskState>,
    pub room: NodeRoom,
    pub runs_folder: PathBuf,
    /// The mark of the folders that this operator may remove, and their least age.
    pub marker: Marker,
    pub sweep_after: Duration,
    pub machines: Machines,
    pub goldens: Goldens,
    pub caches: Caches,
    pub lines: Arc<Lines>,
    pub recorder: Recorder,
    pub metrics: Metrics,
    pub clock: Clock,
    pub host: watch::Receiver<HostState>,
    /// The things that this node may do, by the age of its Lease.
    standing: watch::Receiver<Standing>,
    /// The nodes that have a Lease, and those that are gone.
    pub nodes: watch::Receiver<Arc<Nodes>>,
    snapshots: UnboundedSender<ObjectRef<Guarded<GoldenSnapshot>>>,
    draining: AtomicBool,
    evicting: AtomicBool,
    /// Failed reconciles of each object.
    pub failures: Failures,
    /// The last writes of statuses that were not urgent.
    pub writes: WriteTimes,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context(node {})", self.node)
    }
}

/// The parts of a context that other modules make.
#[allow(missing_debug_implementations, reason = "used up at once")]
pub struct Parts {
    pub client: Client,
    pub defaults: Defaults,
    pub budget: Budget,
    pub disk_limits: DiskLimits,
    pub disk: watch::Receiver<DiskState>,
    pub sweep_after: Duration,
    pub machines: Machines,
    pub goldens: Goldens,
    pub caches: Caches,
    pub lines: Arc<Lines>,
    pub recorder: Recorder,
    pub metrics: Metrics,
    pub clock: Clock,
    pub host: watch::Receiver<HostState>,
    pub standing: watch::Receiver<Standing>,
    pub nodes: watch::Receiver<Arc<Nodes>>,
    pub snapshots: UnboundedSender<ObjectRef<Guarded<GoldenSnapshot>>>,
}

impl Context {
    pub fn new(parts: Parts) -> Self {
        let Parts {
            client,
            defaults,
            budget,
            disk_limits,
            disk,
            sweep_after,
            machines,
            goldens,
            caches,
            lines,
            recorder,
            metrics,
            clock,
            host,
            standing,
            nodes,
            snapshots,
        } = parts;
        let machines::Config { node, node_id, runs: runs_folder, marker, .. } =
            machines.config().clone();
        let writes = WriteTimes::new(clock.clone());
        Self {
            client,
            node,
            node_id,
            configured: defaults,
            disk_limits,
            disk,
            room: NodeRoom::new(budget),
            runs_folder,
            marker,
            sweep_after,
            machines,
            goldens,
            caches,
            lines,
            recorder,
            metrics,
            clock,
            host,
            standing,
            nodes,
            snapshots,
            draining: AtomicBool::new(false),
            evicting: AtomicBool::new(false),
            failures: Failures::default(),
            writes,
        }
    }

    /// The generation and the time of an object's status that is decided now.
    pub fn decided(&self, object: &impl Resource) -> Decided {
        Decided { generation: object.meta().generation, now: self.clock.now() }
    }

    /// Whether this node may claim: it holds its Lease, and is not told to stop.
    pub fn may_claim(&self) -> bool {
        *self.standing.borrow() == Standing::Held && !self.draining()
    }

    /// Follows the standing of this node.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Told to stop: nothing new is claimed or made.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.machines.drain();
    }

    /// The time to stop is nearly over: current runs are ended.
    pub fn evicting(&self) -> bool {
        self.evicting.load(Ordering::Relaxed)
    }

    pub fn evict(&self) {
        self.evicting.store(true, Ordering::Relaxed);
    }

    pub fn pool(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<std::sync::Arc<Guarded<AgentVMPool>>> {
        self.caches.pools.get(&ObjectRef::new(name).within(namespace))
    }

    pub fn snapshot(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<std::sync::Arc<Guarded<GoldenSnapshot>>> {
        self.caches.snapshots.get(&ObjectRef::new(name).within(namespace))
    }

    /// Wakes the snapshot's reconcile: a pool needs it in a new layout.
    pub fn wake_snapshot(&self, namespace: &str, name: &str) {
        let _ = self.snapshots.unbounded_send(ObjectRef::new(name).within(namespace));
    }

    /// The delay of a reconcile that is due at this time. It is never zero, so that a clock that is
    /// behind does not make a reconcile spin.
    pub fn wake_in(&self, at: Timestamp) -> Duration {
        self.clock.until(at).max(MOMENT)
    }

    /// Forgets the entries of objects that are gone.
    pub fn forget(&self, exists: impl Fn(&str) -> bool) {
        self.failures.keep(&exists);
        self.writes.keep(&exists);
        self.machines.keep_runs(|uid| exists(uid.as_str()));
    }
}
