//! What the status of a pool says: at most once a second, and only when it differs.

use std::time::Duration;

use agentvm_core::{
    defaults::InvalidSpec,
    names::DomainName,
    pool::{
        Counts, NodeFacts, Plan, Seen, ValidPool, invalid_status, next_status, node_entry,
        settle_memory,
    },
    status::{Decided, find},
};
use agentvm_crds::{AgentVMPool, AgentVMPoolStatus, NetworkMode, PoolReason, condition_type};
use agentvm_hypervisor::{Accelerator, Usage};
use kube::{Resource, runtime::controller::Action};

use super::super::{Context, error::Error, publish::publish};
use crate::metrics::{Metrics, pool_label};

/// No pool's status is written more often than this by one node.
const PACE: Duration = Duration::from_secs(1);

/// Writes the status where it differs; says when to come back where it was too early.
pub async fn publish_status(
    pool: &AgentVMPool,
    want: &ValidPool,
    seen: &Seen,
    plan: &Plan,
    cx: &Context,
) -> Result<Option<Duration>, Error> {
    let uid = pool.metadata.uid.as_deref().ok_or(Error::Incomplete("uid"))?;
    let usage = cx.machines.usage(uid);
    tell_metrics(pool, seen, &usage, &cx.metrics);
    let trouble = cx.machines.trouble(uid);
    let accelerator = match cx.host.borrow().facts().map(|facts| facts.accelerator.clone()) {
        Some(Accelerator::Kvm) => "KVM",
        Some(Accelerator::Tcg { .. }) => "TCG",
        None => "Unknown",
    };
    let generation = pool.metadata.generation;
    let facts = NodeFacts {
        node: &cx.node,
        generation: generation.unwrap_or(0),
        accelerator,
        tier: cx.machines.tier(uid),
        unshared: usage.iter().map(|(_, usage)| usage.unshared_bytes).collect(),
        network_generation: cx.machines.links().in_force(uid),
        last_error: trouble.as_ref().map(|trouble| (trouble.reason, trouble.message.as_str())),
        note: note(want),
    };
    let old = pool.status.clone().unwrap_or_default();
    let before = old.nodes.iter().find(|node| node.name == cx.node);
    let entry = settle_memory(before, node_entry(want, seen, plan, facts), cx.since_written(uid));
    let next = next_status(&old, entry, decided(pool, cx));
    if old == next {
        return Ok(None);
    }
    if let Some(early) = cx.since_written(uid).and_then(|since| PACE.checked_sub(since)) {
        return Ok(Some(early));
    }
    cx.note_written(uid);
    let turn = turn(&old, &next);
    publish(cx, pool, next).await?;
    if let Some((reason, message)) = turn {
        cx.recorder.warning(&pool.object_ref(&()), &reason, "Fill", &message).await;
    }
    Ok(None)
}

/// What people may not expect of a pool that is as it should be.
fn note(want: &ValidPool) -> &'static str {
    let nobody =
        want.network_mode == NetworkMode::NatFiltered && want.policy(0).resolvers.is_empty();
    if !nobody {
        return "";
    }
    "no names can be looked up: this node names no DNS server that machines can ask; set spec.network.resolver or network.resolvers"
}

fn tell_metrics(pool: &AgentVMPool, seen: &Seen, usage: &[(DomainName, Usage)], metrics: &Metrics) {
    let label = pool_label(&pool.metadata);
    metrics.pool(&label, Counts::of(seen));
    metrics.machines(&label, usage);
}

fn decided(pool: &AgentVMPool, cx: &Context) -> Decided {
    Decided { generation: pool.metadata.generation, now: cx.clock.now() }
}

/// The spec can't be carried out: said once, then nothing before it changes.
pub async fn invalid(pool: &AgentVMPool, why: &InvalidSpec, cx: &Context) -> Result<Action, Error> {
    let old = pool.status.clone().unwrap_or_default();
    let next = invalid_status(&old, why, decided(pool, cx));
    if publish(cx, pool, next).await? {
        cx.recorder
            .warning(&pool.object_ref(&()), "InvalidSpec", "Validate", &why.to_string())
            .await;
    }
    Ok(Action::await_change())
}

/// Whether people should hear of it: something new is wrong, emulation included.
fn turn(old: &AgentVMPoolStatus, next: &AgentVMPoolStatus) -> Option<(String, String)> {
    let reason = |status: &AgentVMPoolStatus| {
        find(&status.conditions, condition_type::DEGRADED)
            .filter(|c| c.status == agentvm_crds::ConditionStatus::True)
            .map(|c| (c.reason.clone(), c.message.clone()))
    };
    let (now, before) = (reason(next)?, reason(old).map(|before| before.0).unwrap_or_default());
    // Emulation was there before and behind it.
    let better = before == PoolReason::ResetFailing.as_str()
        && now.0 == PoolReason::SoftwareEmulation.as_str();
    (before != now.0 && !better).then_some(now)
}

#[cfg(test)]
mod tests {
    use agentvm_crds::ConditionStatus;
    use jiff::Timestamp;

    use super::*;

    fn degraded(reason: PoolReason) -> AgentVMPoolStatus {
        let (type_, holds) = (condition_type::DEGRADED, reason != PoolReason::Healthy);
        let status = if holds { ConditionStatus::True } else { ConditionStatus::False };
        let decided = Decided { generation: Some(1), now: Timestamp::UNIX_EPOCH };
        let condition = decided.condition(type_, status, reason.as_str(), "");
        AgentVMPoolStatus { conditions: vec![condition], ..AgentVMPoolStatus::default() }
    }

    #[test]
    fn people_hear_of_what_is_newly_wrong_and_not_of_what_gets_better() {
        use PoolReason::{Healthy, ResetFailing, SoftwareEmulation};
        let said = |old, new| turn(&degraded(old), &degraded(new)).map(|said| said.0);
        assert_eq!(said(Healthy, ResetFailing).as_deref(), Some("ResetFailing"));
        assert_eq!(said(SoftwareEmulation, ResetFailing).as_deref(), Some("ResetFailing"));
        assert_eq!(said(ResetFailing, ResetFailing), None);
        assert_eq!(said(ResetFailing, SoftwareEmulation), None);
        assert_eq!(said(ResetFailing, Healthy), None);
    }
}
