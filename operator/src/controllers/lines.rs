//! The lines of all pools and the use of machines by their runs, kept by the events of the watches.
//! Looking at one run does not look at the others.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use agentvm_core::{
    pool::{Charge, Ledger, key_usage},
    run::{PoolName, QueueEntry, RunQueues, standing},
};
use agentvm_crds::{AgentRun, AgentVMPool, AgentVMPoolStatus};
use agentvm_types::{NodeName, PoolUid, RunUid};
use kube::{Resource, ResourceExt, runtime::watcher};
use tokio::sync::mpsc;

use super::Guarded;
use crate::clock::Clock;

/// Changes of pools and lines that other objects should hear of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum News {
    /// Another run may be next.
    Line(PoolName),
    /// The pool came or went: all of its runs have something new to say.
    Pool(PoolName),
}

#[derive(Debug, Default)]
struct State {
    queues: RunQueues,
    ledger: Ledger,
    pools: HashMap<PoolUid, PoolName>,
    /// While a list comes in: the objects that it has.
    runs_listed: HashSet<RunUid>,
    pools_listed: HashSet<PoolUid>,
}

/// The lines, behind one short lock.
#[derive(Debug)]
pub struct Lines {
    node: NodeName,
    clock: Clock,
    state: Mutex<State>,
    news: mpsc::UnboundedSender<News>,
}

impl Lines {
    pub fn new(node: NodeName, clock: Clock) -> (Self, mpsc::UnboundedReceiver<News>) {
        let (news, heard) = mpsc::unbounded_channel();
        (Self { node, clock, state: Mutex::default(), news }, heard)
    }

    /// An event of the watch of runs, after the cache has it.
    pub fn on_run(&self, event: &watcher::Event<Guarded<AgentRun>>) {
        let mut state = self.state();
        match event {
            watcher::Event::Init => state.runs_listed.clear(),
            watcher::Event::InitApply(object) => {
                if let Some(uid) = object.meta().uid.clone().map(RunUid::new) {
                    state.runs_listed.insert(uid);
                }
                self.note(&mut state, object);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut state.runs_listed);
                for uid in state.queues.absent(|uid| listed.contains(uid)) {
                    self.forget(&mut state, &uid);
                }
            }
            watcher::Event::Apply(object) => self.note(&mut state, object),
            watcher::Event::Delete(object) => {
                if let Some(uid) = object.meta().uid.clone().map(RunUid::new) {
                    self.forget(&mut state, &uid);
                }
            }
        }
    }

    fn note(&self, state: &mut State, object: &Guarded<AgentRun>) {
        let Some(uid) = object.meta().uid.clone().map(RunUid::new) else { return };
        // A run that cannot be understood stands in no line.
        let known = object.0.as_ref().ok();
        let Some((run, standing)) = known.and_then(|run| Some((run, standing(run)?))) else {
            return self.forget(state, &uid);
        };
        let namespace = run.namespace().unwrap_or_default();
        let pool = PoolName::new(&namespace, &run.spec.pool_ref.name);
        if state.queues.note(&uid, &run.name_any(), pool.clone(), standing) {
            state.ledger.close(&pool, &uid, self.clock.now());
            state.ledger.note(&pool, run, &self.node);
            self.tell(News::Line(pool));
        }
    }

    fn forget(&self, state: &mut State, uid: &RunUid) {
        let Some(pool) = state.queues.find(uid).map(|(pool, _)| pool.clone()) else { return };
        state.queues.forget(uid);
        state.ledger.close(&pool, uid, self.clock.now());
        self.tell(News::Line(pool));
    }

    /// An event of the watch of pools, after the cache has it.
    pub fn on_pool(&self, event: &watcher::Event<Guarded<AgentVMPool>>) {
        let mut state = self.state();
        match event {
            watcher::Event::Init => state.pools_listed.clear(),
            watcher::Event::InitApply(object) => {
                if let Some(uid) = object.meta().uid.clone().map(PoolUid::new) {
                    state.pools_listed.insert(uid);
                }
                self.note_pool(&mut state, object);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut state.pools_listed);
                let gone = state.pools.keys().filter(|uid| !listed.contains(*uid));
                for uid in gone.cloned().collect::<Vec<_>>() {
                    self.forget_pool(&mut state, &uid);
                }
            }
            watcher::Event::Apply(object) => self.note_pool(&mut state, object),
            watcher::Event::Delete(object) => {
                if let Some(uid) = object.meta().uid.clone().map(PoolUid::new) {
                    self.forget_pool(&mut state, &uid);
                }
            }
        }
    }

    fn note_pool(&self, state: &mut State, object: &Guarded<AgentVMPool>) {
        let meta = object.meta();
        let Some(uid) = meta.uid.clone().map(PoolUid::new) else { return };
        let name = PoolName::new(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        );
        if state.pools.insert(uid, name.clone()).is_none() {
            self.tell(News::Pool(name.clone()));
        }
        let status = object.0.as_ref().ok().and_then(|pool| pool.status.as_ref());
        if state.queues.set_usage(name.clone(), status.into_iter().flat_map(key_usage)) {
            self.tell(News::Line(name));
        }
    }

    fn forget_pool(&self, state: &mut State, uid: &PoolUid) {
        let Some(name) = state.pools.remove(uid) else { return };
        // Another pool may have the name already.
        if !state.pools.values().any(|other| *other == name) {
            state.queues.forget_usage(&name);
            state.ledger.forget(&name);
        }
        self.tell(News::Pool(name));
    }

    /// The number of runs before this one in the line of the pool. It is exact where it is less
    /// than `free`. Runs in `busy` have their machines already.
    pub fn ahead(
        &self,
        pool: &PoolName,
        this: &QueueEntry,
        free: u32,
        busy: &HashSet<RunUid>,
    ) -> u32 {
        let mut state = self.state();
        let Some(line) = state.queues.line_mut(pool) else { return 0 };
        let skip = |uid: &RunUid| busy.contains(uid) && *uid != this.uid;
        line.ahead_within(this, free as usize, skip)
            .unwrap_or_else(|| line.position(this).max(free))
    }

    /// The names of the first runs in the line of a pool.
    pub fn first(&self, pool: &PoolName, count: u32, busy: &HashSet<RunUid>) -> Vec<String> {
        let state = self.state();
        let Some(line) = state.queues.line(pool) else { return vec![] };
        let first = line.first(count as usize, |uid| busy.contains(uid));
        let names = first.iter().filter_map(|place| state.queues.find(&place.age.uid));
        names.map(|(_, name)| name.to_string()).collect()
    }

    /// The number of runs that wait for a machine of the pool.
    pub fn queued(&self, pool: &PoolName, busy: &HashSet<RunUid>) -> u32 {
        let state = self.state();
        let Some(line) = state.queues.line(pool) else { return 0 };
        let served = busy.iter().filter(|uid| line.contains(uid)).count();
        u32::try_from(line.len() - served).unwrap_or(u32::MAX)
    }

    /// The names of the runs of a pool that are not over.
    pub fn open(&self, pool: &PoolName) -> Vec<String> {
        self.state().queues.open(pool).map(ToString::to_string).collect()
    }

    /// The namespace and the name of a run.
    pub fn run(&self, uid: &RunUid) -> Option<(String, String)> {
        let state = self.state();
        let (pool, name) = state.queues.find(uid)?;
        Some((pool.namespace.to_string(), name.to_string()))
    }

    /// The name of a pool.
    pub fn pool(&self, uid: &PoolUid) -> Option<PoolName> {
        self.state().pools.get(uid).cloned()
    }

    /// The next use of a pool's machines by its keys; `None` where there is nothing to charge.
    pub fn charge(&self, pool: &PoolName, old: &AgentVMPoolStatus) -> Option<Charge> {
        self.state().ledger.charge(pool, old, &self.node, self.clock.now())
    }

    /// The charge is written down.
    pub fn charged(&self, pool: &PoolName, charge: &Charge) {
        self.state().ledger.charged(pool, charge.charged);
    }

    fn tell(&self, news: News) {
        // The receiver is gone only when the operator stops.
        let _ = self.news.send(news);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
