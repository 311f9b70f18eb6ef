//! There are no finalizers: this file removes things on this node whose object is gone, by UID.
//!
//! Deleting a run stops it; deleting a pool ends its idle machines and lets claimed ones finish; a
//! golden's files stay until its last machine is gone.

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use agentvm_core::{
    golden::{DeviceLayout, needed, recipe},
    names::GoldenKey,
};
use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot};
use agentvm_hypervisor::HostFacts;
use agentvm_types::{OwnerUid, PoolUid, RunUid, report};
use jiff::Timestamp;
use kube::{Api, Resource, api::ListParams, runtime::reflector::Store};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Context, Guarded, HostState, golden::asked};
use crate::metrics::pool_label;

const INTERVAL: Duration = Duration::from_secs(2);
/// The time limit for an answer of the API server.
const LIVE: Duration = Duration::from_secs(10);

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
        sweep_machines(&cx).await;
        sweep_policies(&cx).await;
        sweep_goldens(&cx, &facts).await;
        sweep_folders(&cx).await;
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

/// Each part reads the things on this node first, then the cache, and then asks the API server
/// itself: an object that was made in between is never taken for gone.
async fn sweep_machines(cx: &Context) {
    let (pools, runs) = cx.machines.owners();
    let known_runs = uids(&cx.caches.runs, RunUid::new);
    let suspects: Vec<&RunUid> =
        runs.iter().filter(|uid| !known_runs.contains(uid.as_str())).collect();
    if !suspects.is_empty()
        && let Some(live) = live::<AgentRun>(cx).await
    {
        for uid in suspects.into_iter().filter(|uid| !live.contains(uid.as_str())) {
            tracing::info!(run = %uid, "the run was deleted: its machine goes");
            cx.machines.release(uid);
        }
    }
    let known_pools = uids(&cx.caches.pools, PoolUid::new);
    cx.room.keep(|uid| known_pools.contains(uid));
    let suspects: HashSet<&PoolUid> =
        pools.iter().filter(|uid| !known_pools.contains(uid.as_str())).collect();
    if suspects.is_empty() {
        cx.machines.keep_pools(|uid| known_pools.contains(uid));
        return;
    }
    let Some(live) = live::<AgentVMPool>(cx).await else { return };
    cx.machines.keep_pools(|uid| known_pools.contains(uid) || live.contains(uid.as_str()));
    for uid in suspects.into_iter().filter(|uid| !live.contains(uid.as_str())) {
        let slots: Vec<u32> = cx.machines.seen(uid).into_keys().collect();
        cx.machines.retire(uid, &slots);
    }
}

/// A policy outlives its pool while a machine of the pool lives; a setup's policy goes with the
/// setup.
async fn sweep_policies(cx: &Context) {
    // A policy that comes later than this look stays.
    let before: HashSet<OwnerUid> = cx.machines.network().policy_owners().into_iter().collect();
    let mut owners = uids(&cx.caches.pools, OwnerUid::new);
    owners.extend(uids(&cx.caches.snapshots, OwnerUid::new));
    owners.extend(cx.machines.owners().0.into_iter().map(OwnerUid::from));
    let stays = |uid: &OwnerUid| owners.contains(uid) || !before.contains(uid);
    if let Err(why) = cx.machines.network().retain_policies(stays).await {
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
    let leaving = cx.goldens.leaving(&needed, &known);
    if leaving.is_empty() {
        return;
    }
    // A snapshot that the cache lacks may need them.
    let cached = texts(&cx.caches.snapshots);
    if live::<GoldenSnapshot>(cx).await.is_none_or(|live| !live.is_subset(&cached)) {
        return;
    }
    for key in leaving {
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

/// Removes `FOLDER/UID` of runs that are gone: with our mark, old enough, unknown to the cache, and
/// unknown to the API server at this moment.
async fn sweep_folders(cx: &Context) {
    let runs = cx.runs_folder.clone();
    let names = move || {
        let entries = std::fs::read_dir(runs).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    let names = tokio::task::spawn_blocking(names).await.unwrap_or_default();
    let known = uids(&cx.caches.runs, RunUid::new);
    for uid in names.into_iter().filter(|uid| !known.contains(uid.as_str())) {
        let Some(folder) = cx.marker.run_folder(cx.runs_folder.join(&uid)) else { continue };
        let made = Timestamp::try_from(folder.made).unwrap_or(Timestamp::MAX);
        let old = cx.clock.now().duration_since(made);
        if Duration::try_from(old).is_ok_and(|old| old >= cx.sweep_after)
            && is_gone(cx, &folder.run, &uid).await
        {
            remove(folder.path).await;
        }
    }
}

/// Whether the API server itself says that there is no such run.
async fn is_gone(cx: &Context, run: &str, uid: &str) -> bool {
    let Some((namespace, name)) = run.split_once('/') else { return false };
    let api: Api<AgentRun> = Api::namespaced(cx.client.clone(), namespace);
    match timeout(LIVE, api.get_metadata_opt(name)).await {
        Ok(Ok(None)) => true,
        // Another run of this name.
        Ok(Ok(Some(found))) => found.metadata.uid.is_some_and(|found| found != uid),
        Ok(Err(_)) | Err(_) => false,
    }
}

async fn remove(path: PathBuf) {
    let shown = path.display().to_string();
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(path)).await;
    if let Err(why) = removed.map_err(std::io::Error::other).flatten() {
        tracing::warn!(
            path = shown,
            error = &why as &dyn std::error::Error,
            "a run's folder could not be removed"
        );
    }
}

/// The UIDs of all objects of a kind, as the API server has them now. `None`: it did not answer.
async fn live<K>(cx: &Context) -> Option<HashSet<String>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::all(cx.client.clone());
    let list = timeout(LIVE, api.list_metadata(&ListParams::default())).await.ok()?.ok()?;
    Some(list.items.into_iter().filter_map(|object| object.metadata.uid).collect())
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
