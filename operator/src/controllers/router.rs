//! Turns events of machines, goldens and lines into objects that need another look.
//!
//! A machine that came or went concerns its pool and the first runs in line; a golden concerns its
//! pools. The events that have come meanwhile are taken together, so that one look at a pool
//! answers all of them: the work follows the number of pools and of free machines, not of events
//! and runs.

use std::{collections::HashSet, sync::Arc};

use agentvm_core::{pool::lacks_room, run::PoolName};
use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot, PoolNode};
use agentvm_types::{OwnerUid, PoolUid, RunUid};
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::{Resource, runtime::reflector::ObjectRef};
use tokio::sync::{mpsc, watch};

use super::{Context, Guarded, HostState, lines::News};
use crate::machines::Event;

/// The largest number of events that are taken together.
const BATCH: usize = 4096;

/// The queues that controllers listen to.
pub struct Queues {
    pub runs: UnboundedReceiver<ObjectRef<Guarded<AgentRun>>>,
    pub pools: UnboundedReceiver<ObjectRef<Guarded<AgentVMPool>>>,
    pub snapshots: UnboundedReceiver<ObjectRef<Guarded<GoldenSnapshot>>>,
}

/// The other ends.
pub struct Router {
    runs: UnboundedSender<ObjectRef<Guarded<AgentRun>>>,
    pools: UnboundedSender<ObjectRef<Guarded<AgentVMPool>>>,
    snapshots: UnboundedSender<ObjectRef<Guarded<GoldenSnapshot>>>,
}

/// A router and the queues it feeds.
pub fn router() -> (Router, Queues) {
    let (runs, run_queue) = unbounded();
    let (pools, pool_queue) = unbounded();
    let (snapshots, snapshot_queue) = unbounded();
    (
        Router { runs, pools, snapshots },
        Queues { runs: run_queue, pools: pool_queue, snapshots: snapshot_queue },
    )
}

impl Router {
    /// Routes for ever.
    pub async fn route(
        self,
        cx: Arc<Context>,
        mut machines: mpsc::UnboundedReceiver<Event>,
        mut goldens: mpsc::UnboundedReceiver<OwnerUid>,
        mut lines: mpsc::UnboundedReceiver<News>,
        mut host: watch::Receiver<HostState>,
    ) {
        let (mut events, mut owners, mut news) = (Vec::new(), Vec::new(), Vec::new());
        let (mut nodes, mut standing) = (cx.nodes.clone(), cx.standing());
        loop {
            tokio::select! {
                Ok(()) = nodes.changed() => self.everything(&cx),
                Ok(()) = standing.changed() => self.everything(&cx),
                _ = machines.recv_many(&mut events, BATCH) => self.machines(&cx, &mut events),
                _ = goldens.recv_many(&mut owners, BATCH) => {
                    owners.clear();
                    self.golden(&cx);
                }
                _ = lines.recv_many(&mut news, BATCH) => self.lines(&cx, &mut news),
                told = host.changed() => match told {
                    Ok(()) => self.everything(&cx),
                    // The operator stops.
                    Err(_) => return,
                },
            }
        }
    }

    fn machines(&self, cx: &Context, events: &mut Vec<Event>) {
        let (mut runs, mut pools) = (HashSet::new(), HashSet::new());
        for event in events.drain(..) {
            match event {
                Event::Run { uid } => runs.insert(uid),
                Event::Pool { uid } => pools.insert(uid),
            };
        }
        for run in runs {
            if let Some((namespace, name)) = cx.lines.run(&run) {
                let _ = self.runs.unbounded_send(ObjectRef::new(&name).within(&namespace));
            }
        }
        if pools.is_empty() {
            return;
        }
        self.pools_without_room(cx, &pools);
        let busy = busy(cx);
        for uid in pools {
            let Some(pool) = cx.lines.pool(&uid) else { continue };
            let _ = self.pools.unbounded_send(ObjectRef::new(&pool.name).within(&pool.namespace));
            self.first(cx, &pool, &uid, &busy);
        }
    }

    fn lines(&self, cx: &Context, news: &mut Vec<News>) {
        let busy = busy(cx);
        for news in news.drain(..).collect::<HashSet<_>>() {
            match news {
                News::Line(pool) => {
                    let found = cx.pool(&pool.namespace, &pool.name);
                    let uid = found.and_then(|found| found.meta().uid.clone());
                    if let Some(uid) = uid.map(PoolUid::new) {
                        self.first(cx, &pool, &uid, &busy);
                    }
                }
                News::Pool(pool) => {
                    for run in cx.lines.open(&pool) {
                        let object = ObjectRef::new(&run).within(&pool.namespace);
                        let _ = self.runs.unbounded_send(object);
                    }
                }
            }
        }
    }

    /// One run for each idle machine looks again.
    fn first(&self, cx: &Context, pool: &PoolName, uid: &PoolUid, busy: &HashSet<RunUid>) {
        let idle = cx.machines.numbers(uid).idle;
        if idle == 0 {
            return;
        }
        for run in cx.lines.first(pool, idle, busy) {
            let _ = self.runs.unbounded_send(ObjectRef::new(&run).within(&pool.namespace));
        }
    }

    /// A pool may have waited for capacity that another pool gives back.
    fn pools_without_room(&self, cx: &Context, but: &HashSet<PoolUid>) {
        for object in cx.caches.pools.state() {
            let Ok(pool) = &object.0 else { continue };
            let short = |node: &PoolNode| node.name == cx.node.as_str() && lacks_room(node);
            let Some(uid) = pool.metadata.uid.as_deref() else { continue };
            if !but.contains(uid) && pool.status.iter().flat_map(|s| &s.nodes).any(short) {
                let _ = self.pools.unbounded_send(ObjectRef::from_obj(&*object));
            }
        }
    }

    /// Goldens are shared by recipe: any snapshot may have it, and any pool may have waited for it.
    fn golden(&self, cx: &Context) {
        for snapshot in cx.caches.snapshots.state() {
            let _ = self.snapshots.unbounded_send(ObjectRef::from_obj(&*snapshot));
        }
        for pool in cx.caches.pools.state() {
            let _ = self.pools.unbounded_send(ObjectRef::from_obj(&*pool));
        }
    }

    fn everything(&self, cx: &Context) {
        self.golden(cx);
        Self::wake_runs(&self.runs, cx);
    }

    /// Every run is looked at at once: the host changed, or the operator is told to stop.
    pub fn wake_runs(runs: &UnboundedSender<ObjectRef<Guarded<AgentRun>>>, cx: &Context) {
        for run in cx.caches.runs.state() {
            let _ = runs.unbounded_send(ObjectRef::from_obj(&*run));
        }
    }

    /// A sender of its own for callers that need a look at a snapshot.
    pub fn snapshot_sender(&self) -> UnboundedSender<ObjectRef<Guarded<GoldenSnapshot>>> {
        self.snapshots.clone()
    }

    /// A sender of its own for callers that need a look at a pool.
    pub fn pool_sender(&self) -> UnboundedSender<ObjectRef<Guarded<AgentVMPool>>> {
        self.pools.clone()
    }

    /// A sender of its own for [`Router::wake_runs`].
    pub fn run_sender(&self) -> UnboundedSender<ObjectRef<Guarded<AgentRun>>> {
        self.runs.clone()
    }
}

/// The runs that have a machine here. The cache may be behind, and have them in line still.
fn busy(cx: &Context) -> HashSet<RunUid> {
    cx.machines.owners().1.into_iter().collect()
}
