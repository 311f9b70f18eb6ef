//! The facts about a pool on this node.

use agentvm_core::{
    fair_share::Want,
    golden::{DeviceLayout, Local, recipe},
    pool::{Blocked, GoldenState, PoolFacts, Room, ValidPool, usable, wanted},
    run::PoolName,
};
use agentvm_crds::{AgentVMPool, NetworkMode};
use agentvm_types::PoolUid;
use kube::ResourceExt;

use super::{pool_uid, room::Part};
use crate::controllers::{Context, HostState, error::Error};

/// The facts for the plan, and the number of machines that the pool may have, where it has more
/// than its namespace's share and others lack them.
pub struct Observation {
    pub facts: PoolFacts,
    pub yield_to: Option<u32>,
}

/// Looks; changes nothing but the pool's wish for room.
pub fn observe(
    pool: &AgentVMPool,
    want: &ValidPool,
    network: &Result<(), Blocked>,
    cx: &Context,
) -> Result<Observation, Error> {
    let uid = pool_uid(pool)?;
    let namespace = pool.namespace().ok_or(Error::Incomplete("namespace"))?;
    let golden = network.clone().and_then(|()| usable(&want.golden, golden(&namespace, want, cx)));
    let size = golden
        .as_ref()
        .ok()
        .and_then(|key| cx.goldens.get(key))
        .map(|golden| golden.resources.memory_mib);
    let busy = cx.machines.owners().1.into_iter().collect();
    let queued = cx.lines.queued(&PoolName::new(&namespace, &pool.name_any()), &busy);
    let hold_until = cx.machines.trouble(&uid).map(|trouble| trouble.hold_until);
    let slots = cx.machines.seen(&uid);
    let mut facts = PoolFacts { slots, queued, room: Room::default(), golden, hold_until };
    let wish = size.map(|memory_mib| Want {
        pool: uid.clone(),
        namespace,
        machines: wanted(want, &facts, cx.clock.now()),
        memory_mib,
    });
    let part = if let Some(wish) = wish {
        part(want, wish, cx)
    } else {
        cx.room.forget(&uid);
        Part::default()
    };
    facts.room = part.room;
    Ok(Observation { facts, yield_to: part.yield_to })
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

/// The pool's part of the node's budget, and the room in the subnet where its machines need an
/// address.
fn part(want: &ValidPool, wish: Want<PoolUid>, cx: &Context) -> Part {
    let addresses =
        cx.machines.network().room().filter(|_| want.network_mode == NetworkMode::NatFiltered);
    let addresses = addresses.map(|(machines, limit)| Room { machines, limit });
    let mut part = cx.room.part(wish, addresses, &cx.machines);
    if let Some(why) = cx.disk.borrow().pressure.why() {
        part.room = Room { machines: 0, limit: why.to_owned() };
    }
    part
}
