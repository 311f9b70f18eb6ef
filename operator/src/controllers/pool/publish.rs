//! Writes the status of a pool, at the pace that core allows and only when it differs.

use std::time::Duration;

use agentvm_core::{
    calendar,
    invalid_spec::InvalidSpec,
    names::DomainName,
    pool::{
        Counts, NodeFacts, Plan, PoolFacts, ValidPool, invalid_status, newly_degraded, next_status,
        node_entry, settle_memory, wait_before_write, without_gone,
    },
    run::PoolName,
};
use agentvm_crds::AgentVMPool;
use agentvm_hypervisor::{Accelerator, Usage};
use agentvm_types::OwnerUid;
use kube::{Resource, runtime::controller::Action};

use super::{
    super::{Context, error::Error, publish::publish},
    pool_uid,
};
use crate::metrics::{Metrics, pool_label};

/// Writes the status where it differs. Returns the time to wait where it is too early.
pub async fn publish_status(
    pool: &AgentVMPool,
    want: &ValidPool,
    seen: &PoolFacts,
    plan: &Plan,
    cx: &Context,
) -> Result<Option<Duration>, Error> {
    let uid = pool_uid(pool)?;
    let usage = cx.machines.usage(&uid);
    tell_metrics(pool, seen, &usage, &cx.metrics);
    let trouble = cx.machines.trouble(&uid);
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
        tier: cx.machines.tier(&uid),
        unshared: usage.iter().map(|(_, usage)| usage.unshared_bytes).collect(),
        network_generation: cx.machines.network().generation_in_force(&OwnerUid::from(&uid)),
        last_error: trouble.as_ref().map(|trouble| (trouble.reason, trouble.message.as_str())),
    };
    let old = pool.status.clone().unwrap_or_default();
    let before = old.nodes.iter().find(|node| node.name == cx.node.as_str());
    let mut entry =
        settle_memory(before, node_entry(want, seen, plan, facts), cx.writes.since(uid.as_str()));
    let name = pool_name(pool);
    let charge = cx.lines.charge(&name, &old);
    entry.charged_time = match &charge {
        Some(charge) => Some(calendar::text(charge.charged)),
        None => before.and_then(|before| before.charged_time.clone()),
    };
    let known = without_gone(&old, &cx.nodes.borrow());
    let mut next = next_status(&known, entry, cx.decided(pool));
    if let Some(charge) = &charge {
        next.queue = Some(charge.queue.clone());
    }
    if old == next {
        return Ok(None);
    }
    if let Some(early) = wait_before_write(cx.writes.since(uid.as_str())) {
        return Ok(Some(early));
    }
    cx.writes.note(uid.as_str());
    let news = newly_degraded(&old, &next);
    publish(cx, pool, next).await?;
    if let Some(charge) = &charge {
        cx.lines.charged(&name, charge);
    }
    if let Some((reason, message)) = news {
        cx.recorder.warning(&pool.object_ref(&()), &reason, "Fill", &message).await;
    }
    Ok(None)
}

fn pool_name(pool: &AgentVMPool) -> PoolName {
    let meta = &pool.metadata;
    PoolName::new(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}

fn tell_metrics(
    pool: &AgentVMPool,
    seen: &PoolFacts,
    usage: &[(DomainName, Usage)],
    metrics: &Metrics,
) {
    let label = pool_label(&pool.metadata);
    metrics.pool(&label, Counts::of(seen));
    metrics.machines(&label, usage);
}

/// Says once that the spec cannot be carried out. Nothing more is done before it changes.
pub async fn invalid(pool: &AgentVMPool, why: &InvalidSpec, cx: &Context) -> Result<Action, Error> {
    let old = pool.status.clone().unwrap_or_default();
    let next = invalid_status(&old, why, cx.decided(pool));
    if publish(cx, pool, next).await? {
        cx.recorder
            .warning(&pool.object_ref(&()), "InvalidSpec", "Validate", &why.to_string())
            .await;
    }
    Ok(Action::await_change())
}
