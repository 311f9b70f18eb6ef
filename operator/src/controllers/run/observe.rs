//! The facts about a run: its pool, its references, its place in line, its attempt on this node.

use std::{collections::HashSet, sync::Arc};

use agentvm_core::{
    run::{
        AttemptState, FinishedAttempt, PoolName, PoolState, RunFacts, attempts, entry,
        known_missing, open_attempt, unstarted, waits_since,
    },
    status::find,
};
use agentvm_crds::{AgentRun, AgentVMPool, ConditionStatus, condition_type};
use agentvm_types::{Nonce, PoolUid};
use kube::ResourceExt;

use super::{
    Run, created,
    references::{Resolved, resolve},
};
use crate::controllers::{Context, HostState, error::Error};

/// The facts for the plan, and the things that only its execution needs.
#[derive(Debug)]
pub struct Observation {
    pub facts: RunFacts,
    pub pool_uid: Option<PoolUid>,
    pub resolved: Resolved,
}

/// `maxRunSeconds` of the run's pool, where there is one.
pub fn pool_max(run: &AgentRun, cx: &Context) -> Option<u32> {
    let pool = cx.pool(&run.namespace()?, &run.spec.pool_ref.name)?;
    let valid = cx.valid_pool(pool.0.as_ref().ok()?).ok()?;
    Some(valid.max_run_seconds)
}

/// Looks; changes nothing.
pub async fn observe(run: &Run<'_>, cx: &Context) -> Result<Observation, Error> {
    let (object, valid) = (run.object, &run.valid);
    let namespace = object.namespace().ok_or(Error::Incomplete("namespace"))?;
    let pool = cx.pool(&namespace, &valid.pool);
    let pool = pool.as_ref().and_then(|pool| pool.0.as_ref().ok());
    let pool_uid = pool.and_then(|pool| pool.metadata.uid.clone()).map(PoolUid::new);
    let attempt = attempt(run, cx);
    let pool = pool.map_or(PoolState::Missing, |pool| pool_state(pool, run, cx));
    let (ahead, next) = match &pool {
        PoolState::Present { free, .. } if attempt == AttemptState::None => {
            let ahead = ahead(run, &namespace, *free, cx)?;
            (ahead, ahead < *free && !valid.suspended && !valid.cancelled)
        }
        PoolState::Present { .. } | PoolState::Missing => (0, false),
    };
    let status = object.status.as_ref();
    // References are read only where they decide something: for a run that is next.
    let (missing, resolved) = if next || attempt == AttemptState::Claimed {
        match resolve(&cx.client, &namespace, valid).await? {
            Ok(resolved) => (None, resolved),
            Err(missing) => (Some(missing), Resolved::default()),
        }
    } else {
        (known_missing(status), Resolved::default())
    };
    let facts = RunFacts {
        waits_since: waits_since(status, created(object), cx.clock.now()),
        attempts: attempts(status),
        unstarted: unstarted(status),
        pool,
        missing,
        ahead,
        attempt,
        draining: !cx.may_claim(),
        evicting: cx.evicting(),
        refused: cx.disk.borrow().refuses(&namespace, cx.disk_limits),
    };
    Ok(Observation { facts, pool_uid, resolved })
}

/// The number of runs before this one.
fn ahead(run: &Run<'_>, namespace: &str, free: u32, cx: &Context) -> Result<u32, Error> {
    // A claim that was not confirmed is written before anything else: its machine is taken.
    if cx.machines.holds(&run.uid) {
        return Ok(0);
    }
    let this = entry(run.object).ok_or(Error::Incomplete("uid"))?;
    // Without a free machine the exact place does not matter.
    let owners = if free == 0 { vec![] } else { cx.machines.owners().1 };
    let busy: HashSet<_> = owners.into_iter().collect();
    Ok(cx.lines.ahead(&PoolName::new(namespace, &run.valid.pool), &this, free, &busy))
}

fn pool_state(pool: &AgentVMPool, run: &Run<'_>, cx: &Context) -> PoolState {
    let uid = pool.metadata.uid.clone().map(PoolUid::new);
    let numbers = uid.map(|uid| cx.machines.numbers(&uid)).unwrap_or_default();
    // A claim whose write had an unknown outcome still holds its machine, for this run only.
    let free = numbers.idle + u32::from(cx.machines.holds(&run.uid));
    let max = cx.valid_pool(pool).map_or(0, |valid| valid.max);
    let ready =
        pool.status.as_ref().and_then(|status| find(&status.conditions, condition_type::READY));
    let trouble = ready
        .filter(|c| c.status == ConditionStatus::False)
        .map(|c| format!("{}: {}", c.reason, c.message));
    PoolState::Present { free, total: numbers.total, max, trouble }
}

fn attempt(run: &Run<'_>, cx: &Context) -> AttemptState {
    let Some(open) = open_attempt(run.object.status.as_ref()) else { return AttemptState::None };
    // Before the first look at the host no machine counts as lost; those that are there will be
    // found.
    if matches!(*cx.host.borrow(), HostState::Unknown(_)) {
        return AttemptState::Elsewhere;
    }
    // A nonce is drawn: who has a machine with it has the attempt, whatever the node is called. An
    // invalid nonce names no machine.
    let nonce: Option<Nonce> = open.nonce.parse().ok();
    if let Some(here) = nonce.and_then(|nonce| cx.machines.attempt(&run.uid, &nonce)) {
        return here;
    }
    let nodes = cx.nodes.borrow();
    let (ours, over) = match &open.node_id {
        Some(id) => (id == cx.node_id.as_str(), nodes.is_over(id)),
        // A claim of a version that wrote no id.
        None => (open.node_name == cx.node.as_str(), nodes.is_over_by_name(&open.node_name)),
    };
    let ended = |done| AttemptState::Ended(Arc::new(done));
    match (ours, over) {
        (true, _) => ended(FinishedAttempt::machine_gone(&open.vm_name)),
        (false, true) => ended(FinishedAttempt::node_lost(&open.node_name, run.valid.cancelled)),
        (false, false) => AttemptState::Elsewhere,
    }
}
