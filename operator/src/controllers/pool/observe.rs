//! The facts about a pool on this node.

use agentvm_core::{
    golden::{DeviceLayout, Local, recipe},
    pool::{Blocked, GoldenState, InUse, PoolFacts, Room, ValidPool, room, usable},
};
use agentvm_crds::{AgentVMPool, NetworkMode};
use kube::ResourceExt;

use crate::controllers::{Context, HostState, error::Error, pool::pool_uid, run::waiting};

/// Looks; changes nothing.
pub fn observe(
    pool: &AgentVMPool,
    want: &ValidPool,
    network: &Result<(), Blocked>,
    cx: &Context,
) -> Result<PoolFacts, Error> {
    let uid = pool_uid(pool)?;
    let namespace = pool.namespace().ok_or(Error::Incomplete("namespace"))?;
    let golden = network.clone().and_then(|()| usable(&want.golden, golden(&namespace, want, cx)));
    let size = golden
        .as_ref()
        .ok()
        .and_then(|key| cx.goldens.get(key))
        .map(|golden| golden.resources.memory_mib);
    let room = size.map_or_else(Room::default, |memory_mib| room_for(want, memory_mib, cx));
    let queued = waiting(cx, &namespace, &pool.name_any()).len().try_into().unwrap_or(u32::MAX);
    let hold_until = cx.machines.trouble(&uid).map(|trouble| trouble.hold_until);
    Ok(PoolFacts { slots: cx.machines.seen(&uid), queued, room, golden, hold_until })
}

/// The golden that the pool names, in the layout that its machines need.
fn golden(namespace: &str, want: &ValidPool, cx: &Context) -> GoldenState {
    let facts = match &*cx.host.borrow() {
        HostState::Ready(facts) => facts.clone(),
        HostState::Unknown(why) | HostState::Unavailable { why, .. } => {
            return GoldenState::NoHost(why.clone());
        }
    };
    let Some(found) = cx.snapshot(namespace, &want.golden) else { return GoldenState::NoSnapshot };
    let recipe = match &found.0 {
        Ok(snapshot) => recipe(&snapshot.spec, &cx.defaults()).map_err(|why| why.to_string()),
        Err(malformed) => Err(malformed.error.clone()),
    };
    let recipe = match recipe {
        Ok(recipe) => recipe,
        Err(why) => return GoldenState::Invalid(why),
    };
    let key = cx.goldens.key(&recipe, DeviceLayout::of(want.network_mode), &facts);
    let local = cx.goldens.local(&key, namespace);
    if local == Local::Absent {
        cx.wake_snapshot(namespace, &want.golden);
    }
    GoldenState::Known { key, local }
}

/// The room for machines of this size, in the node's budget and in the subnet where they need one.
fn room_for(want: &ValidPool, memory_mib: u32, cx: &Context) -> Room {
    let (machines, memory) = cx.machines.in_use();
    let addresses =
        cx.machines.network().room().filter(|_| want.network_mode == NetworkMode::NatFiltered);
    let addresses = addresses.map(|(machines, limit)| Room { machines, limit });
    if let Some(why) = cx.disk.borrow().pressure.why() {
        return Room { machines: 0, limit: why.to_owned() };
    }
    room(cx.budget, InUse { machines, memory_mib: memory }, memory_mib, addresses)
}
