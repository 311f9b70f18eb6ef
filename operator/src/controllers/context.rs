//! What every controller has: the API, this node's machines and goldens, the other kinds' caches, plain settings.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agentvm_core::{
    defaults::{Defaults, InvalidSpec},
    golden::profile,
    network::ula,
    pool::{ValidPool, validate},
    retry::Backoff,
};
use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot, Profile};
use futures::channel::mpsc::UnboundedSender;
use jiff::Timestamp;
use kube::{
    Client,
    core::DeserializeGuard,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::{sync::watch, time::Instant};

use super::{events::Recorder, host::HostState};
use crate::{clock::Clock, goldens::Goldens, machines::Machines, metrics::Metrics};

/// An object that may be malformed: it doesn't stop the watch of the others.
pub type Guarded<K> = DeserializeGuard<K>;

/// What machines may take of this node, over all pools.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub machines: u32,
    pub memory_mib: u64,
}

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
    pub node: String,
    configured: Defaults,
    pub budget: Budget,
    pub runs_folder: PathBuf,
    pub machines: Machines,
    pub goldens: Goldens,
    pub caches: Caches,
    pub recorder: Recorder,
    pub metrics: Metrics,
    pub clock: Clock,
    pub host: watch::Receiver<HostState>,
    snapshots: UnboundedSender<ObjectRef<Guarded<GoldenSnapshot>>>,
    draining: AtomicBool,
    evicting: AtomicBool,
    failures: Mutex<HashMap<String, u32>>,
    written: Mutex<HashMap<String, Instant>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context(node {})", self.node)
    }
}

/// The parts of a context that somebody else makes.
#[allow(missing_debug_implementations, reason = "used up at once")]
pub struct Parts {
    pub client: Client,
    pub defaults: Defaults,
    pub budget: Budget,
    pub machines: Machines,
    pub goldens: Goldens,
    pub caches: Caches,
    pub recorder: Recorder,
    pub metrics: Metrics,
    pub clock: Clock,
    pub host: watch::Receiver<HostState>,
    pub snapshots: UnboundedSender<ObjectRef<Guarded<GoldenSnapshot>>>,
}

impl Context {
    pub fn new(parts: Parts) -> Self {
        let Parts {
            client,
            defaults,
            budget,
            machines,
            goldens,
            caches,
            recorder,
            metrics,
            clock,
            host,
            snapshots,
        } = parts;
        let (node, runs_folder) = (machines.config().node.clone(), machines.config().runs.clone());
        Self {
            client,
            node,
            configured: defaults,
            budget,
            runs_folder,
            machines,
            goldens,
            caches,
            recorder,
            metrics,
            clock,
            host,
            snapshots,
            draining: AtomicBool::new(false),
            evicting: AtomicBool::new(false),
            failures: Mutex::default(),
            written: Mutex::default(),
        }
    }

    /// What objects get that say nothing. Where this host's machines are is known once somebody has made their network.
    pub fn defaults(&self) -> Defaults {
        let mut defaults = self.configured.clone();
        defaults.network.machines_ipv6 = Some(ula(&self.machines.config().instance));
        if let Some(subnet) = self.machines.links().known_subnet() {
            defaults.network.machines = subnet.net();
        }
        defaults
    }

    /// A pool with all of its defaults: its golden's profile decides about some, once its snapshot is there.
    pub fn valid_pool(&self, pool: &AgentVMPool) -> Result<ValidPool, InvalidSpec> {
        let defaults = self.defaults();
        let namespace = pool.metadata.namespace.as_deref().unwrap_or_default();
        let snapshot = self.snapshot(namespace, &pool.spec.golden_snapshot_ref.name);
        let snapshot = snapshot.as_ref().and_then(|object| object.0.as_ref().ok());
        let profile =
            snapshot.map_or(Profile::Standard, |snapshot| profile(&snapshot.spec, &defaults));
        validate(&pool.spec, &defaults, profile)
    }

    /// Told to stop: nothing new is claimed or made.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.machines.drain();
    }

    /// The time to stop is nearly over: what still executes is ended.
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

    /// Has a snapshot looked at: it is needed in a layout that nobody has asked for yet.
    pub fn wake_snapshot(&self, namespace: &str, name: &str) {
        let _ = self.snapshots.unbounded_send(ObjectRef::new(name).within(namespace));
    }

    /// The delay of a reconcile that is due at this time. It is never zero, so that a clock that is
    /// behind does not make a reconcile spin.
    pub fn wake_in(&self, at: Timestamp) -> Duration {
        self.clock.until(at).max(MOMENT)
    }

    /// How long to wait after another failure of this object.
    pub fn failed(&self, uid: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(uid.to_owned()).or_default();
        *count = count.saturating_add(1);
        Backoff::RECONCILE.after(*count, uid)
    }

    /// A reconcile of this object went well.
    pub fn succeeded(&self, uid: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// How long it is since this object's status was written last for a reason of no urgency.
    pub fn since_written(&self, uid: &str) -> Option<Duration> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(uid).map(|at| self.clock.instant() - *at)
    }

    pub fn note_written(&self, uid: &str) {
        self.written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(uid.to_owned(), self.clock.instant());
    }

    /// Forgets what is kept of objects that are gone.
    pub fn forget(&self, exists: impl Fn(&str) -> bool) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| exists(uid));
        self.written.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| exists(uid));
    }
}
