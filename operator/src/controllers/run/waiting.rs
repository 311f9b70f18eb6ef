//! The runs that wait for a machine of a pool, in the cache.

use std::{collections::HashSet, sync::Arc};

use agentvm_core::run::{QueueEntry, is_finished, open_attempt};
use agentvm_core::status::find;
use agentvm_crds::{AcceptedReason, AgentRun, DesiredState, condition_type};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::controllers::{Context, Guarded};

/// A run that waits.
#[derive(Debug)]
pub struct Waiting {
    pub entry: QueueEntry,
    pub name: String,
}

/// All that wait for this pool. A run that has a machine already doesn't, whatever the cache still says.
pub fn waiting(cx: &Context, namespace: &str, pool: &str) -> Vec<Waiting> {
    let busy: HashSet<String> = cx.machines.owners().1.into_iter().collect();
    let all: Vec<Arc<Guarded<AgentRun>>> = cx.caches.runs.state();
    all.iter()
        .filter_map(|object| object.0.as_ref().ok())
        .filter(|run| {
            run.metadata.namespace.as_deref() == Some(namespace) && run.spec.pool_ref.name == pool
        })
        .filter(|run| {
            !is_finished(run.status.as_ref()) && open_attempt(run.status.as_ref()).is_none()
        })
        .filter(|run| run.spec.desired_state == DesiredState::Running)
        // Who waits for something else than a machine doesn't keep others from one.
        .filter(|run| !misses_a_reference(run))
        .filter_map(|run| Some(Waiting { entry: entry(run)?, name: run.name_any() }))
        .filter(|run| !busy.contains(&run.entry.uid))
        .collect()
}

/// As far as its status says; it looks again by itself.
fn misses_a_reference(run: &AgentRun) -> bool {
    let accepted =
        run.status.as_ref().and_then(|status| find(&status.conditions, condition_type::ACCEPTED));
    let reasons = [AcceptedReason::SecretMissing, AcceptedReason::ConfigMapMissing];
    accepted.is_some_and(|accepted| reasons.iter().any(|reason| reason.as_str() == accepted.reason))
}

/// A run's place in line is made of these.
pub fn entry(run: &AgentRun) -> Option<QueueEntry> {
    Some(QueueEntry {
        uid: run.metadata.uid.clone()?,
        priority: run.spec.priority,
        created: created(run),
    })
}

/// When the object was made.
pub fn created(run: &AgentRun) -> Timestamp {
    run.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// As many as a pool's plan can count.
pub fn waiting_count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
