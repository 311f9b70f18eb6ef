//! What is seen of a run: its pool, its references, its place in line, its attempt on this node.

use std::sync::Arc;

use agentvm_core::run::{
    AttemptEnd, AttemptResult, AttemptSeen, FinishedAttempt, PoolSeen, Seen as Facts, ValidRun,
    open_attempt, place,
};
use agentvm_core::{calendar, status::find};
use agentvm_crds::{AgentRun, AgentVMPool, ConditionStatus, condition_type};
use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    references::{Resolved, resolve},
    waiting::{created, entry, waiting},
};
use crate::{
    controllers::{Context, HostState, error::Error},
    machines::AttemptView,
};

/// The facts that the plan is made of, and what only its execution needs.
#[derive(Debug)]
pub struct Seen {
    pub facts: Facts,
    pub pool_uid: Option<String>,
    pub resolved: Resolved,
    pub done: Option<Arc<FinishedAttempt>>,
}

/// `maxRunSeconds` of the run's pool, where there is one.
pub fn pool_max(run: &AgentRun, cx: &Context) -> Option<u32> {
    let pool = cx.pool(&run.namespace()?, &run.spec.pool_ref.name)?;
    let valid = cx.valid_pool(pool.0.as_ref().ok()?).ok()?;
    Some(valid.max_run_seconds)
}

/// Looks; changes nothing.
pub async fn observe(
    run: &AgentRun,
    uid: &str,
    valid: &ValidRun,
    cx: &Context,
) -> Result<Seen, Error> {
    let namespace = run.namespace().ok_or(Error::Incomplete("namespace"))?;
    let pool = cx.pool(&namespace, &valid.pool);
    let pool = pool.as_ref().and_then(|object| object.0.as_ref().ok());
    let pool_uid = pool.and_then(|pool| pool.metadata.uid.clone());
    let (attempt, done) = attempt(run, uid, cx);
    let (missing, resolved) = match (&attempt, &pool_uid) {
        // References are read only where they decide something.
        (AttemptSeen::None, Some(_)) | (AttemptSeen::Undriven, _) => {
            match resolve(&cx.client, &namespace, valid).await? {
                Ok(resolved) => (None, resolved),
                Err(missing) => (Some(missing), Resolved::default()),
            }
        }
        _ => (None, Resolved::default()),
    };
    let this = entry(run).ok_or(Error::Incomplete("uid"))?;
    let others = waiting(cx, &namespace, &valid.pool);
    let facts = Facts {
        waits_since: waits_since(run),
        attempts: attempts(run),
        pool: pool.map_or(PoolSeen::Missing, |pool| pool_seen(pool, pool_uid.as_deref(), uid, cx)),
        missing,
        queue: place(&this, others.iter().map(|waiting| &waiting.entry)),
        attempt,
        draining: cx.draining(),
        evicting: cx.evicting(),
    };
    Ok(Seen { facts, pool_uid, resolved, done })
}

/// From its creation; after an attempt, from the end of that.
fn waits_since(run: &AgentRun) -> Timestamp {
    let last = run.status.as_ref().and_then(|status| status.attempts.last());
    let ended = last.and_then(|attempt| calendar::parse(attempt.end_time.as_deref()?));
    ended.unwrap_or_else(|| created(run))
}

fn attempts(run: &AgentRun) -> u32 {
    let last = run.status.as_ref().and_then(|status| status.attempts.last());
    last.and_then(|attempt| u32::try_from(attempt.number).ok()).unwrap_or(0)
}

fn pool_seen(pool: &AgentVMPool, uid: Option<&str>, run: &str, cx: &Context) -> PoolSeen {
    let (idle, total) = uid.map_or((0, 0), |uid| cx.machines.numbers(uid));
    // A claim whose writing failed in an unknown way still holds its machine, for this run and no other.
    let free = idle + u32::from(cx.machines.holds(run));
    let max = cx.valid_pool(pool).map_or(0, |valid| valid.max);
    let ready =
        pool.status.as_ref().and_then(|status| find(&status.conditions, condition_type::READY));
    let trouble = ready
        .filter(|c| c.status == ConditionStatus::False)
        .map(|c| format!("{}: {}", c.reason, c.message));
    PoolSeen::Present { free, total, max, trouble }
}

fn attempt(run: &AgentRun, uid: &str, cx: &Context) -> (AttemptSeen, Option<Arc<FinishedAttempt>>) {
    let Some(open) = open_attempt(run.status.as_ref()) else { return (AttemptSeen::None, None) };
    // Before the first look at the host nothing is lost; what is there will be found.
    if open.node_name != cx.node || matches!(*cx.host.borrow(), HostState::Unknown(_)) {
        return (AttemptSeen::Elsewhere, None);
    }
    match cx.machines.attempt(uid, &open.nonce) {
        Some(AttemptView::Claimed) => (AttemptSeen::Undriven, None),
        Some(AttemptView::Driven) => (AttemptSeen::Active, None),
        Some(AttemptView::Ended(done)) => (AttemptSeen::Ended(done.result.clone()), Some(done)),
        None => {
            let message = format!("machine {} is not on this node any more", open.vm_name);
            (
                AttemptSeen::Ended(AttemptResult {
                    end: AttemptEnd::GuestLost,
                    started: true,
                    message,
                }),
                None,
            )
        }
    }
}
