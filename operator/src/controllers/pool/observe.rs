//! What is seen of a pool on this node.

use agentvm_core::{
    golden::{DeviceLayout, Local, recipe},
    names::GoldenKey,
    pool::{Blocked, Room, Seen, ValidPool},
};
use agentvm_crds::{AgentVMPool, NetworkMode, PoolReason};
use kube::ResourceExt;

use crate::controllers::{
    Context, HostState,
    error::Error,
    run::{waiting, waiting_count},
};

/// Looks; changes nothing.
pub fn observe(
    pool: &AgentVMPool,
    want: &ValidPool,
    network: &Result<(), Blocked>,
    cx: &Context,
) -> Result<Seen, Error> {
    let uid = pool.metadata.uid.as_deref().ok_or(Error::Incomplete("uid"))?;
    let namespace = pool.namespace().ok_or(Error::Incomplete("namespace"))?;
    let golden = network.clone().and_then(|()| golden(&namespace, want, cx));
    let size = golden
        .as_ref()
        .ok()
        .and_then(|key| cx.goldens.get(key))
        .map(|golden| golden.resources.memory_mib);
    let room = size.map_or_else(Room::default, |memory_mib| room(want, u64::from(memory_mib), cx));
    let queued = waiting_count(waiting(cx, &namespace, &pool.name_any()).len());
    let hold_until = cx.machines.trouble(uid).map(|trouble| trouble.hold_until);
    Ok(Seen { slots: cx.machines.seen(uid), queued, room, golden, hold_until })
}

/// What machines are made of, or the one reason why none can be made.
fn golden(namespace: &str, want: &ValidPool, cx: &Context) -> Result<GoldenKey, Blocked> {
    let blocked = |reason, message: String| Err(Blocked { reason, message });
    let facts = match &*cx.host.borrow() {
        HostState::Ready(facts) => facts.clone(),
        HostState::Unknown(why) | HostState::Unavailable { why, .. } => {
            return blocked(PoolReason::HypervisorUnavailable, why.clone());
        }
    };
    let name = &want.golden;
    let Some(found) = cx.snapshot(namespace, name) else {
        let message = format!(
            "spec.goldenSnapshotRef.name: there is no GoldenSnapshot {name:?} in this namespace"
        );
        return blocked(PoolReason::SnapshotMissing, message);
    };
    let recipe = match &found.0 {
        Ok(snapshot) => recipe(&snapshot.spec, &cx.defaults()).map_err(|why| why.to_string()),
        Err(malformed) => Err(malformed.error.clone()),
    };
    let not_ready = |why: String| {
        blocked(PoolReason::SnapshotNotReady, format!("GoldenSnapshot {name:?}: {why}"))
    };
    let recipe = match recipe {
        Ok(recipe) => recipe,
        Err(why) => return not_ready(why),
    };
    let key = cx.goldens.key(&recipe, DeviceLayout::of(want.network_mode), &facts);
    let local = cx.goldens.local(&key);
    if local == Local::Absent {
        cx.wake_snapshot(namespace, name);
    }
    match local {
        Local::Ready => Ok(key),
        Local::Absent | Local::Queued => not_ready("waits to be captured on this node".to_owned()),
        Local::Capturing { doing } => not_ready(format!("is being captured on this node: {doing}")),
        Local::Failed { reason, message, .. } => {
            not_ready(format!("{}: {message}", reason.as_str()))
        }
    }
}

/// Machines of this size that still fit into the node's budget, and find an address where they need one.
fn room(want: &ValidPool, memory_mib: u64, cx: &Context) -> Room {
    let (machines, used) = cx.machines.in_use();
    let by_memory = cx.budget.memory_mib.saturating_sub(used) / memory_mib.max(1);
    let by_count = cx.budget.machines.saturating_sub(machines);
    let budget = u32::try_from(by_memory).unwrap_or(u32::MAX).min(by_count);
    match cx.machines.links().room().filter(|_| want.network_mode == NetworkMode::NatFiltered) {
        Some((addresses, full)) if addresses < budget => Room { machines: addresses, limit: full },
        _ => Room { machines: budget, ..Room::default() },
    }
}
