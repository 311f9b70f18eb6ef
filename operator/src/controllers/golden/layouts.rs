//! The wanted layouts of a snapshot: those of its namespace's pools that name it.

use std::collections::BTreeSet;

use agentvm_core::{golden::DeviceLayout, pool::network_mode};
use agentvm_crds::{AgentVMPool, GoldenSnapshot};
use kube::ResourceExt;

use crate::controllers::Context;

/// The layouts that pools need of a snapshot; empty where no pool names it.
pub fn asked(snapshot: &GoldenSnapshot, cx: &Context) -> BTreeSet<DeviceLayout> {
    let (namespace, name) = (snapshot.namespace(), snapshot.name_any());
    let pools = cx.caches.pools.state();
    let of_snapshot = pools
        .iter()
        .filter_map(|object| object.0.as_ref().ok())
        .filter(|pool| pool.namespace() == namespace && pool.spec.golden_snapshot_ref.name == name);
    of_snapshot.map(|pool| layout(pool, cx)).collect()
}

fn layout(pool: &AgentVMPool, cx: &Context) -> DeviceLayout {
    DeviceLayout::of(network_mode(pool.spec.network.as_ref(), &cx.defaults()))
}
