//! The machines of this node: one task for each machine, one board that shows what each is doing,
//! one handle for the rest of the operator.
//!
//! ```text
//!   mod.rs               the handle: create, recover, end all
//!   runs.rs, pools.rs    the handle, as runs and pools use it
//!   tiers.rs             the self-test of a golden
//!   board.rs             slots and lives
//!   commands.rs          the commands of a task, and which it obeys
//!   events.rs            the objects that are worth another look
//!   task.rs              the life of one machine: begin here
//!   prepare/             Creating, Resetting
//!   execute.rs, attempt  Executing
//!   finish.rs            the outcome of an attempt
//!   recover.rs           the machines that a restarted operator finds
//!   claim_priority.rs    claims go first
//! ```
//!
//! `agentvm_core::machine` has the states, the events and the commands, and decides about them.

mod attempt;
mod board;
mod claim_priority;
mod commands;
mod events;
mod execute;
mod finish;
mod pools;
mod prepare;
mod recover;
mod runs;
mod task;
mod tiers;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agentvm_core::{
    machine::Life,
    names::{DomainName, GoldenKey, InstanceId},
    pool::parallel_resets,
};
use agentvm_hypervisor::{Golden, Hypervisor, MachineKind, MachineRecord, Resources, Stop};
use agentvm_types::{NodeId, NodeName, OwnerUid, PoolUid, RunUid};
use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use attempt::{AttemptSpec, SecretFile};
pub use board::Work;
pub use events::Event;
pub use pools::PoolOwner;

use crate::{
    agent::{SessionError, fresh_nonce},
    clock::Clock,
    metrics::Metrics,
    network::{Network, flows::FlowRecorder},
    node::marker::Marker,
};
use board::{Board, Entry, SlotKey};
use claim_priority::ClaimGate;
use commands::Inbox;
use events::Events;
use pools::Pools;
use task::{Origin, Task};

/// The settings that all machines of this node share.
#[derive(Clone, Debug)]
pub struct Config {
    pub instance: InstanceId,
    pub node: NodeName,
    pub node_id: NodeId,
    /// The size of a machine's share, in bytes.
    pub share_bytes: u64,
    /// The number of machines that are made at the same time.
    pub parallel: usize,
    /// The folder of the files that runs leave.
    pub runs: PathBuf,
    /// Marks these folders as ours.
    pub marker: Marker,
    pub metrics: Metrics,
    pub clock: Clock,
    pub flow_recorder: FlowRecorder,
}

#[derive(Debug)]
struct Inner {
    hv: Arc<dyn Hypervisor>,
    network: Network,
    config: Config,
    board: Mutex<Board>,
    /// No code holds this lock and the board's at the same time.
    pools: Mutex<Pools>,
    creation: Semaphore,
    /// Resets have turns of their own: a creation takes a hundred times as long.
    resets: Semaphore,
    claims: ClaimGate,
    stopping: CancellationToken,
    events: Events,
    tasks: TaskTracker,
}

impl Inner {
    fn board(&self) -> MutexGuard<'_, Board> {
        // Every change of the board is one assignment, so a panic elsewhere leaves it whole.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    fn now(&self) -> Timestamp {
        self.config.clock.now()
    }
}

/// The handle that controllers use.
#[derive(Clone, Debug)]
pub struct Machines {
    inner: Arc<Inner>,
}

impl Machines {
    pub fn new(
        hv: Arc<dyn Hypervisor>,
        network: Network,
        config: Config,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let inner = Inner {
            hv,
            network,
            creation: Semaphore::new(config.parallel.max(1)),
            resets: Semaphore::new(parallel_resets(cores)),
            config,
            board: Mutex::default(),
            pools: Mutex::default(),
            claims: ClaimGate::default(),
            stopping: CancellationToken::new(),
            events: Events(events),
            tasks: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    pub fn host(&self) -> &Arc<dyn Hypervisor> {
        &self.inner.hv
    }

    pub fn network(&self) -> &Network {
        &self.inner.network
    }

    /// Starts to make a machine in an empty slot. A slot that is taken stays as it is.
    pub fn create(&self, pool: &PoolOwner, slot: u32, golden: &Golden) -> Result<(), SessionError> {
        let Config { instance, clock, .. } = &self.inner.config;
        let record = MachineRecord {
            name: DomainName::for_slot(instance, &pool.uid, slot),
            instance: instance.clone(),
            kind: MachineKind::Pool,
            namespace: pool.namespace.clone(),
            owner: pool.name.clone(),
            owner_uid: OwnerUid::from(&pool.uid),
            slot,
            golden: golden.key.clone(),
            nonce: fresh_nonce()?,
            token: fresh_nonce()?.into(),
            created: clock.now().as_second(),
            nic: None,
        };
        let origin = Origin::Golden { attachment: pool.network.attachment.clone() };
        self.spawn(record, golden.resources, golden.guest.clone(), Life::Creating, origin);
        Ok(())
    }

    fn spawn(
        &self,
        record: MachineRecord,
        size: Resources,
        guest: String,
        life: Life,
        origin: Origin,
    ) {
        let pool_uid = PoolUid::from(&record.owner_uid);
        let key = SlotKey { pool_uid, slot: record.slot };
        let (sender, commands) = mpsc::unbounded_channel();
        let entry = Entry::new(&record, size, life, sender);
        if self.inner.board().insert(key.clone(), entry) {
            let (inner, machine) = (self.inner.clone(), record.name.clone());
            let inbox = Inbox { inner: inner.clone(), key: key.clone(), machine, commands };
            let task =
                Task { inner, key, record, guest, reuses: 0, found: false, not_ours: false, inbox };
            self.inner.tasks.spawn(task.live(origin));
        }
    }

    /// The machines of all pools, and their memory in MiB.
    pub fn in_use(&self) -> (u32, u64) {
        self.inner.board().in_use()
    }

    /// The pools that have machines, and the runs that have one.
    pub fn owners(&self) -> (Vec<PoolUid>, Vec<RunUid>) {
        self.inner.board().owners()
    }

    pub fn goldens_in_use(&self) -> Vec<GoldenKey> {
        self.inner.board().goldens_in_use()
    }

    /// The operator is told to stop: no machine is reset any more.
    pub fn drain(&self) {
        self.inner.stopping.cancel();
    }

    /// Ends every machine, and templates that no capture uses any more. Returns when all are gone,
    /// or with `false` when the time is over.
    pub async fn end_all(&self, patience: Duration) -> bool {
        // No machine begins another use after this, so the commands below reach the last one.
        self.drain();
        self.inner.creation.close();
        self.inner.resets.close();
        self.inner.board().end_all();
        self.inner.tasks.close();
        let all = async {
            self.inner.tasks.wait().await;
            let rest = match self.inner.hv.list().await {
                Ok(rest) => rest,
                Err(why) => {
                    tracing::warn!(
                        error = &why as &dyn std::error::Error,
                        "whether machines are left is not known"
                    );
                    return false;
                }
            };
            let ends =
                rest.iter().map(|machine| self.inner.hv.destroy(&machine.record.name, Stop::Force));
            futures::future::join_all(ends).await.iter().all(Result::is_ok)
        };
        tokio::time::timeout(patience, all).await.unwrap_or(false)
    }
}
