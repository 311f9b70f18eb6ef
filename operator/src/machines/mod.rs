//! The machines of this node: one task per machine, one board that says what each is doing, one handle for everyone.
//!
//! Nothing here calls back into a controller: an [`Event`] says whose object is worth another look.

mod attempt;
mod board;
mod finish;
mod life;
mod order;
mod prepare;
mod recover;
mod session;
mod store;
mod task;

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
use agentvm_hypervisor::{Hypervisor, MachineKind, MachineRecord, MachineSpec, Resources, Stop, Tier};
use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

pub use board::{AttemptView, Command, SlotKey, Trouble};
pub use order::{Order, SecretFile};
pub use prepare::{PrepareError, rehydrate, unix_nanos};
pub use session::{Session, SessionError, fresh_nonce, kind as message_kind, random};
pub use task::chain;

use board::{Board, Entry};
use life::Life;
use task::{Origin, Task};

/// Whose object is worth another look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Pool { uid: String },
    Run { uid: String },
}

/// What machines have in common on this node.
#[derive(Clone, Debug)]
pub struct Config {
    pub instance: InstanceId,
    pub node: String,
    /// Limit of a machine's share, bytes.
    pub share_bytes: u64,
    /// Machines that are made at the same time.
    pub parallel: usize,
    /// Folder of what runs leave.
    pub runs: PathBuf,
}

/// A pool as far as its machines are concerned.
#[derive(Clone, Debug)]
pub struct PoolOwner {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub health_check: Duration,
}

#[derive(Debug)]
struct Inner {
    hv: Arc<dyn Hypervisor>,
    config: Config,
    board: Mutex<Board>,
    creation: Semaphore,
    events: mpsc::UnboundedSender<Event>,
    tasks: TaskTracker,
}

impl Inner {
    fn board(&self) -> MutexGuard<'_, Board> {
        // Every change of the board is one assignment: a panic elsewhere leaves it whole.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub fn new(hv: Arc<dyn Hypervisor>, config: Config, events: mpsc::UnboundedSender<Event>) -> Self {
        let creation = Semaphore::new(config.parallel.max(1));
        let inner = Inner { hv, config, board: Mutex::default(), creation, events, tasks: TaskTracker::new() };
        Self { inner: Arc::new(inner) }
    }

    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    pub fn host(&self) -> &Arc<dyn Hypervisor> {
        &self.inner.hv
    }

    /// Starts to make a machine in an empty slot; a slot that is taken stays as it is.
    pub fn create(
        &self,
        pool: &PoolOwner,
        slot: u32,
        golden: &GoldenKey,
        size: &Resources,
    ) -> Result<(), SessionError> {
        let record = MachineRecord {
            name: DomainName::for_slot(&self.inner.config.instance, &pool.uid, slot),
            instance: self.inner.config.instance.clone(),
            kind: MachineKind::Pool,
            namespace: pool.namespace.clone(),
            owner: pool.name.clone(),
            owner_uid: pool.uid.clone(),
            slot,
            golden: golden.clone(),
            nonce: fresh_nonce()?.to_string(),
            token: fresh_nonce()?.to_string(),
            created: Timestamp::now().as_second(),
        };
        let spec =
            MachineSpec { record: record.clone(), share_bytes: self.inner.config.share_bytes, tier: Tier::Fresh };
        self.spawn(record, size.clone(), Life::Creating, Origin::Golden(Box::new(spec)), pool.health_check);
        Ok(())
    }

    fn spawn(&self, record: MachineRecord, size: Resources, life: Life, origin: Origin, health_check: Duration) {
        let key = SlotKey { pool_uid: record.owner_uid.clone(), slot: record.slot };
        let (sender, commands) = mpsc::unbounded_channel();
        let entry = Entry {
            name: record.name.clone(),
            nonce: record.nonce.clone(),
            golden: record.golden.clone(),
            size,
            life,
            commands: sender,
        };
        if self.inner.board().insert(key.clone(), entry) {
            let task = Task { inner: self.inner.clone(), key, record, health_check, commands };
            self.inner.tasks.spawn(task.live(origin));
        }
    }

    /// Takes an idle machine for a run: a pop from memory.
    pub fn acquire(&self, pool_uid: &str, run_uid: &str) -> Option<Claim> {
        self.inner.board().acquire(pool_uid, &run_uid.to_owned(), &self.inner.config.node)
    }

    /// Whether a machine is set aside for this run and nothing was sent to it.
    pub fn holds(&self, run_uid: &str) -> bool {
        self.inner.board().holds(&run_uid.to_owned())
    }

    /// The claim did not become durable.
    pub fn give_back(&self, run_uid: &str) {
        self.inner.board().give_back(&run_uid.to_owned(), Timestamp::now());
    }

    pub fn attempt(&self, run_uid: &str, nonce: &str) -> Option<AttemptView> {
        self.inner.board().attempt(&run_uid.to_owned(), nonce)
    }

    /// The claim is durable: go. `false` when the machine is gone.
    pub fn drive(&self, order: Order) -> bool {
        let run = order.run_uid.clone();
        self.inner.board().tell_run(&run, Command::Drive(Box::new(order)))
    }

    pub fn stop(&self, run_uid: &str, cause: StopCause) {
        self.inner.board().tell_run(&run_uid.to_owned(), Command::Stop(cause));
    }

    /// Throws away the machine that a run had. Nothing happens when it has none.
    pub fn release(&self, run_uid: &str) {
        self.inner.board().tell_run(&run_uid.to_owned(), Command::Release);
    }

    pub fn retire(&self, pool_uid: &str, slots: &[u32]) {
        self.inner.board().retire(pool_uid, slots);
    }

    pub fn seen(&self, pool_uid: &str) -> BTreeMap<u32, SlotSeen> {
        self.inner.board().seen(pool_uid)
    }

    pub fn numbers(&self, pool_uid: &str) -> (u32, u32) {
        self.inner.board().numbers(pool_uid)
    }

    pub fn in_use(&self) -> (u32, u64) {
        self.inner.board().in_use()
    }

    pub fn owners(&self) -> (Vec<String>, Vec<String>) {
        self.inner.board().owners()
    }

    pub fn goldens_in_use(&self) -> Vec<GoldenKey> {
        self.inner.board().goldens_in_use()
    }

    pub fn trouble(&self, pool_uid: &str) -> Option<Trouble> {
        self.inner.board().trouble(pool_uid)
    }

    /// Says that a pool is worth another look.
    pub fn wake_pool(&self, uid: &str) {
        self.inner.tell(Event::Pool { uid: uid.to_owned() });
    }

    /// Ends every machine, and templates that nobody captures any more; returns when all are gone or the time is over
    /// (`false`).
    pub async fn end_all(&self, patience: Duration) -> bool {
        self.inner.creation.close();
        self.inner.board().release_all();
        self.inner.tasks.close();
        let all = async {
            self.inner.tasks.wait().await;
            let rest = self.inner.hv.list().await.unwrap_or_default();
            let ends = rest.iter().map(|machine| self.inner.hv.destroy(&machine.record.name, Stop::Force));
            futures::future::join_all(ends).await.iter().all(Result::is_ok)
        };
        tokio::time::timeout(patience, all).await.unwrap_or(false)
    }
}
