//! Turns events of machines and goldens into objects that need another look.
//!
//! A machine that came or went concerns its pool and the first runs in line; a golden concerns its
//! pools.

use std::sync::Arc;

use agentvm_core::{pool::lacks_room, run::ahead_of};
use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot, PoolNode};
use agentvm_types::{OwnerUid, PoolUid, RunUid};
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::{
    Resource,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::sync::{mpsc, watch};

use super::{Context, Guarded, HostState, run::waiting};
use crate::machines::Event;

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
        mut host: watch::Receiver<HostState>,
    ) {
        loop {
            tokio::select! {
                Some(event) = machines.recv() => match event {
                    Event::Run { uid } => self.run(&cx, &uid),
                    Event::Pool { uid } => self.pool(&cx, &uid),
                },
                Some(_) = goldens.recv() => self.golden(&cx),
                Ok(()) = host.changed() => self.everything(&cx),
                else => return,
            }
        }
    }

    fn run(&self, cx: &Context, uid: &RunUid) {
        if let Some(found) = by_uid(&cx.caches.runs, uid.as_str()) {
            let _ = self.runs.unbounded_send(found);
        }
    }

    fn pool(&self, cx: &Context, uid: &PoolUid) {
        self.pools_without_room(cx, uid);
        let Some(found) = by_uid(&cx.caches.pools, uid.as_str()) else { return };
        let (namespace, name) = (found.namespace.clone().unwrap_or_default(), found.name.clone());
        let _ = self.pools.unbounded_send(found);
        let free = cx.machines.numbers(uid).idle;
        let line = waiting(cx, &namespace, &name);
        for run in &line {
            if ahead_of(&run.entry, line.iter().map(|other| &other.entry)) < free {
                let _ = self.runs.unbounded_send(ObjectRef::new(&run.name).within(&namespace));
            }
        }
    }

    /// A pool may have waited for capacity that another pool gives back.
    fn pools_without_room(&self, cx: &Context, but: &PoolUid) {
        for object in cx.caches.pools.state() {
            let Ok(pool) = &object.0 else { continue };
            let short = |node: &PoolNode| node.name == cx.node.as_str() && lacks_room(node);
            if pool.metadata.uid.as_deref() != Some(but.as_str())
                && pool.status.iter().flat_map(|s| &s.nodes).any(short)
            {
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

    /// A sender of its own for [`Router::wake_runs`].
    pub fn run_sender(&self) -> UnboundedSender<ObjectRef<Guarded<AgentRun>>> {
        self.runs.clone()
    }
}

fn by_uid<K>(cache: &Store<Guarded<K>>, uid: &str) -> Option<ObjectRef<Guarded<K>>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let found = cache.find(|object| object.meta().uid.as_deref() == Some(uid))?;
    Some(ObjectRef::from_obj(&*found))
}
