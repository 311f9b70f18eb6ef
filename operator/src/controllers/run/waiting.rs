//! The runs that wait for a machine of a pool, in the cache.

use std::{collections::HashSet, sync::Arc};

use agentvm_core::run::{QueueEntry, is_in_line};
use agentvm_crds::AgentRun;
use agentvm_types::RunUid;
use jiff::Timestamp;
use kube::ResourceExt;

use crate::controllers::{Context, Guarded};

/// A run that waits.
#[derive(Debug)]
pub struct Waiting {
    pub entry: QueueEntry,
    pub name: String,
}

/// All runs that wait for this pool. A run that has a machine is not among them, even where the
/// cache is behind.
pub fn waiting(cx: &Context, namespace: &str, pool: &str) -> Vec<Waiting> {
    let busy: HashSet<RunUid> = cx.machines.owners().1.into_iter().collect();
    let all: Vec<Arc<Guarded<AgentRun>>> = cx.caches.runs.state();
    all.iter()
        .filter_map(|object| object.0.as_ref().ok())
        .filter(|run| {
            run.metadata.namespace.as_deref() == Some(namespace) && run.spec.pool_ref.name == pool
        })
        .filter(|run| is_in_line(&run.spec, run.status.as_ref()))
        .filter_map(|run| Some(Waiting { entry: entry(run)?, name: run.name_any() }))
        .filter(|run| !busy.contains(run.entry.uid.as_str()))
        .collect()
}

/// A run's place in line is made of these.
pub fn entry(run: &AgentRun) -> Option<QueueEntry> {
    Some(QueueEntry {
        uid: RunUid::new(run.metadata.uid.clone()?),
        priority: run.spec.priority,
        created: created(run),
    })
}

/// When the object was made.
pub fn created(run: &AgentRun) -> Timestamp {
    run.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}
