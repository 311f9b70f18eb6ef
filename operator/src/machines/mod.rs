//! The machines of this node: one task per machine, one board that says what each is doing, one handle for everyone.
//!
//! Nothing here calls back into a controller: an [`Event`] says whose object is worth another look.

mod attempt;
mod board;
mod evidence;
mod finish;
mod life;
mod measure;
mod order;
mod prepare;
mod recover;
mod relimit;
mod store;
mod task;
mod urgent;
mod verdict;
mod wait;
mod ways;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agentvm_core::{
    names::{DomainName, GoldenKey, InstanceId},
    pool::SlotSeen,
    run::{Claim, StopCause},
};
use agentvm_hypervisor::{
    Golden, Hypervisor, MachineKind, MachineRecord, Resources, Stop, TierReport, Usage,
};
use agentvm_types::{NodeName, Nonce, OwnerUid, PoolUid, RunUid};
use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use board::{AttemptView, Command, SlotKey, Trouble};
pub use order::{Order, SecretFile};
pub use task::chain;
pub use ways::PoolOwner;

use crate::{
    agent::{SessionError, fresh_nonce},
    clock::Clock,
    metrics::Metrics,
    network::{Network, PoolNetwork, flows::FlowRecorder},
};
use board::{Board, Entry};
use life::Life;
use task::{Origin, Task};
use urgent::Claims;

/// Whose object is worth another look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Pool { uid: PoolUid },
    Run { uid: RunUid },
}

/// What machines have in common on this node.
#[derive(Clone, Debug)]
pub struct Config {
    pub instance: InstanceId,
    pub node: NodeName,
    /// Limit of a machine's share, bytes.
    pub share_bytes: u64,
    /// Machines that are made at the same time.
    pub parallel: usize,
    /// Folder of what runs leave.
    pub runs: PathBuf,
    pub metrics: Metrics,
    pub clock: Clock,
    /// What runs try with their network.
    pub flow_recorder: FlowRecorder,
}

#[derive(Debug)]
struct Inner {
    hv: Arc<dyn Hypervisor>,
    links: Network,
    config: Config,
    board: Mutex<Board>,
    creation: Semaphore,
    /// Apart from creation, which takes a hundred times as long.
    resets: Semaphore,
    claims: Claims,
    stopping: CancellationToken,
    events: mpsc::UnboundedSender<Event>,
    tasks: TaskTracker,
}

impl Inner {
    fn board(&self) -> MutexGuard<'_, Board> {
        // Every change of the board is one assignment: a panic elsewhere leaves it whole.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more only when the operator stops.
        let _ = self.events.send(event);
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
        links: Network,
        config: Config,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let board = Board::default();
        let inner = Inner {
            hv,
            links,
            creation: Semaphore::new(config.parallel.max(1)),
            resets: Semaphore::new(cores.max(2)),
            config,
            claims: board.claims.clone(),
            board: Mutex::new(board),
            stopping: CancellationToken::new(),
            events,
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

    pub fn links(&self) -> &Network {
        &self.inner.links
    }

    /// What a pool wants now; its machines that are there already follow it.
    pub fn set_pool(&self, pool: PoolOwner) {
        self.inner.board().ways.set_pool(pool);
    }

    /// Forgets pools that are gone: none of their machines is brought back.
    pub fn keep_pools(&self, exists: impl Fn(&PoolUid) -> bool) {
        self.inner.board().ways.keep(exists);
    }

    /// Starts to make a machine in an empty slot; a slot that is taken stays as it is.
    pub fn create(&self, pool: &PoolOwner, slot: u32, golden: &Golden) -> Result<(), SessionError> {
        let record = MachineRecord {
            name: DomainName::for_slot(&self.inner.config.instance, &pool.uid, slot),
            instance: self.inner.config.instance.clone(),
            kind: MachineKind::Pool,
            namespace: pool.namespace.clone(),
            owner: pool.name.clone(),
            owner_uid: OwnerUid::from(&pool.uid),
            slot,
            golden: golden.key.clone(),
            nonce: fresh_nonce()?,
            token: fresh_nonce()?.into(),
            created: Timestamp::now().as_second(),
            nic: None,
        };
        let origin = Origin::Golden { plug: pool.network.attachment.clone() };
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
        let key = SlotKey { pool_uid: PoolUid::from(&record.owner_uid), slot: record.slot };
        let (sender, commands) = mpsc::unbounded_channel();
        let entry = Entry {
            name: record.name.clone(),
            nonce: record.nonce.clone(),
            golden: record.golden.clone(),
            size,
            life,
            reset: None,
            nic: None,
            resolvers: vec![],
            limits: None,
            usage: None,
            claiming: None,
            commands: sender,
        };
        if self.inner.board().insert(key.clone(), entry) {
            let task = Task { inner: self.inner.clone(), key, record, guest, reuses: 0, commands };
            self.inner.tasks.spawn(task.live(origin));
        }
    }

    /// Finds out which way back machines of this golden have here, unless that is known or under way. Until then they get
    /// fresh processes. It takes the place of a machine in the making, because it makes one.
    pub fn test_tiers(&self, golden: &GoldenKey) {
        if !self.inner.board().ways.begin_test(golden, Timestamp::now()) {
            return;
        }
        let (inner, golden) = (self.inner.clone(), golden.clone());
        self.inner.tasks.spawn(async move {
            let Ok(_permit) = inner.creation.acquire().await else { return };
            inner.claims.pass().await;
            let outcome = inner.hv.tiers(&golden).await.map_err(|why| chain(&why));
            match &outcome {
                Ok(TierReport { tier, why_not_better, .. }) => {
                    let tier = tier.as_str();
                    tracing::info!(golden = %golden, tier, why_not_better, "the ways back to the golden state were tested");
                }
                Err(why) => {
                    tracing::warn!(golden = %golden, "the ways back to the golden state could not be tested: {why}");
                }
            }
            let mut board = inner.board();
            board.ways.end_test(&golden, outcome, Timestamp::now());
            for uid in board.ways.pools_of(&golden) {
                inner.tell(Event::Pool { uid });
            }
        });
    }

    /// How machines of a pool get to their golden state at the moment.
    pub fn tier(&self, pool_uid: &PoolUid) -> TierReport {
        self.inner.board().ways.view(pool_uid, Timestamp::now())
    }

    /// What the idle machines of a pool cost, as far as they were asked.
    pub fn usage(&self, pool_uid: &PoolUid) -> Vec<(DomainName, Usage)> {
        self.inner.board().usage(pool_uid)
    }

    /// Told to stop: no machine is brought back any more.
    pub fn drain(&self) {
        self.inner.stopping.cancel();
    }

    /// Takes an idle machine for a run: a pop from memory.
    pub fn acquire(&self, pool_uid: &PoolUid, run_uid: &RunUid) -> Option<Claim> {
        self.inner.board().acquire(pool_uid, run_uid, &self.inner.config.node)
    }

    /// Whether a machine is set aside for this run and nothing was sent to it.
    pub fn holds(&self, run_uid: &RunUid) -> bool {
        self.inner.board().holds(run_uid)
    }

    /// The claim did not become durable.
    pub fn give_back(&self, run_uid: &RunUid) {
        self.inner.board().give_back(run_uid, Timestamp::now());
    }

    pub fn attempt(&self, run_uid: &RunUid, nonce: &Nonce) -> Option<AttemptView> {
        self.inner.board().attempt(run_uid, nonce)
    }

    /// The claim is durable: go. `false` when the machine is gone.
    pub fn drive(&self, order: Order) -> bool {
        let run = order.run_uid.clone();
        self.inner.board().tell_run(&run, Command::Drive(Box::new(order)))
    }

    pub fn stop(&self, run_uid: &RunUid, cause: StopCause) {
        self.inner.board().tell_run(run_uid, Command::Stop(cause));
    }

    /// The run's end is durable: its machine is brought back or thrown away. Nothing happens when it has none.
    pub fn release(&self, run_uid: &RunUid) {
        self.inner.board().tell_run(run_uid, Command::Release);
    }

    pub fn retire(&self, pool_uid: &PoolUid, slots: &[u32]) {
        self.inner.board().retire(pool_uid, slots);
    }

    /// Idle machines of a pool that are connected in another way than it wants by now.
    pub fn otherwise_connected(&self, pool_uid: &PoolUid, wanted: &PoolNetwork) -> Vec<u32> {
        self.inner.board().otherwise_connected(pool_uid, wanted)
    }

    pub fn seen(&self, pool_uid: &PoolUid) -> BTreeMap<u32, SlotSeen> {
        self.inner.board().seen(pool_uid)
    }

    pub fn numbers(&self, pool_uid: &PoolUid) -> (u32, u32) {
        self.inner.board().numbers(pool_uid)
    }

    pub fn in_use(&self) -> (u32, u64) {
        self.inner.board().in_use()
    }

    pub fn owners(&self) -> (Vec<PoolUid>, Vec<RunUid>) {
        self.inner.board().owners()
    }

    pub fn goldens_in_use(&self) -> Vec<GoldenKey> {
        self.inner.board().goldens_in_use()
    }

    pub fn trouble(&self, pool_uid: &PoolUid) -> Option<Trouble> {
        self.inner.board().trouble(pool_uid)
    }

    /// Says that a pool is worth another look.
    pub fn wake_pool(&self, uid: &PoolUid) {
        self.inner.tell(Event::Pool { uid: uid.clone() });
    }

    /// Ends every machine, and templates that nobody captures any more; returns when all are gone or the time is over
    /// (`false`).
    pub async fn end_all(&self, patience: Duration) -> bool {
        // Before anyone is told: see `Task::renew`.
        self.drain();
        self.inner.creation.close();
        self.inner.resets.close();
        self.inner.board().release_all();
        self.inner.tasks.close();
        let all = async {
            self.inner.tasks.wait().await;
            let rest = self.inner.hv.list().await.unwrap_or_default();
            let ends =
                rest.iter().map(|machine| self.inner.hv.destroy(&machine.record.name, Stop::Force));
            futures::future::join_all(ends).await.iter().all(Result::is_ok)
        };
        tokio::time::timeout(patience, all).await.unwrap_or(false)
    }
}
