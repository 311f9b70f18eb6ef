//! There are no finalizers: this file removes things on this node whose object is gone, by UID.
//!
//! Deleting a run stops it; deleting a pool ends its idle machines and lets claimed ones finish; a
//! golden's files stay until its last machine is gone.

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use agentvm_core::{
    golden::{DeviceLayout, needed, recipe},
    names::GoldenKey,
};
use agentvm_crds::GoldenSnapshot;
use agentvm_hypervisor::HostFacts;
use agentvm_types::{OwnerUid, PoolUid, RunUid, report};
use kube::{Resource, runtime::reflector::Store};
use tokio::time::{MissedTickBehavior, interval};

use super::{Context, Guarded, HostState, golden::asked};
use crate::metrics::pool_label;

const INTERVAL: Duration = Duration::from_secs(2);

/// Sweeps for ever.
pub async fn sweep(cx: Arc<Context>) {
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // Before the earlier machines are taken over, no ownership is certain.
        let facts = match &*cx.host.borrow() {
            HostState::Ready(facts) => facts.clone(),
            HostState::Unknown(_) | HostState::Unavailable { .. } => continue,
        };
        sweep_machines(&cx);
        sweep_policies(&cx).await;
        sweep_goldens(&cx, &facts).await;
        let (runs, keep) = (cx.runs_folder.clone(), uids(&cx.caches.runs, RunUid::new));
        if let Err(why) = tokio::task::spawn_blocking(move || sweep_folders(&runs, &keep)).await {
            tracing::warn!(
                error = &why as &dyn std::error::Error,
                "the folders of runs could not be swept"
            );
        }
        let known: HashSet<String> =
            [texts(&cx.caches.runs), texts(&cx.caches.pools), texts(&cx.caches.snapshots)]
                .into_iter()
                .flatten()
                .collect();
        cx.forget(|uid| known.contains(uid));
        let pools: HashSet<String> =
            cx.caches.pools.state().iter().map(|pool| pool_label(pool.meta())).collect();
        cx.metrics.keep_pools(|pool| pools.contains(pool));
    }
}

fn sweep_machines(cx: &Context) {
    let (pools, runs) = cx.machines.owners();
    let known_runs = uids(&cx.caches.runs, RunUid::new);
    for uid in runs.iter().filter(|uid| !known_runs.contains(*uid)) {
        tracing::info!(run = %uid, "the run was deleted: its machine goes");
        cx.machines.release(uid);
    }
    let known_pools = uids(&cx.caches.pools, PoolUid::new);
    cx.machines.keep_pools(|uid| known_pools.contains(uid));
    cx.room.keep(|uid| known_pools.contains(uid));
    for uid in pools.iter().collect::<HashSet<_>>() {
        if !known_pools.contains(uid) {
            let slots: Vec<u32> = cx.machines.seen(uid).into_keys().collect();
            cx.machines.retire(uid, &slots);
        }
    }
}

/// A policy outlives its pool while a machine of the pool lives; a setup's policy goes with the
/// setup.
async fn sweep_policies(cx: &Context) {
    let mut owners = uids(&cx.caches.pools, OwnerUid::new);
    owners.extend(uids(&cx.caches.snapshots, OwnerUid::new));
    owners.extend(cx.machines.owners().0.into_iter().map(OwnerUid::from));
    if let Err(why) = cx.machines.network().retain_policies(|uid| owners.contains(uid)).await {
        tracing::warn!(
            error = &why as &dyn std::error::Error,
            "the rules of machines could not be changed: {}",
            report(&why)
        );
    }
}

async fn sweep_goldens(cx: &Context, facts: &HostFacts) {
    let (mut needed, mut known) = (HashSet::new(), HashSet::new());
    for snapshot in cx.caches.snapshots.state().iter().filter_map(|object| object.0.as_ref().ok()) {
        for (key, wanted) in keys(snapshot, cx, facts) {
            if wanted {
                needed.insert(key.clone());
            }
            known.insert(key);
        }
    }
    cx.goldens.forget_failures(&needed);
    needed.extend(cx.machines.goldens_in_use());
    for key in cx.goldens.leaving(&needed, &known) {
        match cx.goldens.remove(&key).await {
            Ok(()) => tracing::info!(%key, "removed a golden that nothing uses"),
            Err(why) => {
                tracing::warn!(%key, error = &why as &dyn std::error::Error,
                    "a golden could not be removed");
            }
        }
    }
}

/// The goldens that a snapshot may have here, and which of them it needs.
fn keys(snapshot: &GoldenSnapshot, cx: &Context, facts: &HostFacts) -> Vec<(GoldenKey, bool)> {
    let Ok(recipe) = recipe(&snapshot.spec, &cx.defaults()) else { return vec![] };
    let wanted = needed(asked(snapshot, cx));
    let key = |layout| (cx.goldens.key(&recipe, layout, facts), wanted.contains(&layout));
    DeviceLayout::ALL.map(key).to_vec()
}

/// `FOLDER/UID` of runs that are gone.
fn sweep_folders(folder: &Path, keep: &HashSet<RunUid>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|uid| !keep.contains(uid))
            && let Err(why) = std::fs::remove_dir_all(entry.path())
        {
            let path = entry.path();
            tracing::warn!(path = %path.display(), error = &why as &dyn std::error::Error,
                "a run's folder could not be removed");
        }
    }
}

fn uids<K, U>(cache: &Store<Guarded<K>>, uid: impl Fn(String) -> U) -> HashSet<U>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
    U: Eq + std::hash::Hash,
{
    texts(cache).into_iter().map(uid).collect()
}

/// The UIDs as texts, for tables that objects of all kinds share.
fn texts<K>(cache: &Store<Guarded<K>>) -> HashSet<String>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    cache.state().iter().filter_map(|object| object.meta().uid.clone()).collect()
}
