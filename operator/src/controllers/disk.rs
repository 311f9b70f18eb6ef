//! Looks at the node's disk again and again: its free space, and the output that runs keep.
//!
//! `agentvm_core::pool::disk` decides. Pools and runs read the state; below the critical mark this
//! file stops the run whose machine takes most.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use agentvm_core::{
    pool::{DiskState, FreeSpace, Pressure, greediest, pressure},
    run::{StopCause, kept_bytes},
};
use agentvm_types::PoolUid;
use kube::{Resource, ResourceExt};
use tokio::{sync::watch, time::sleep};

use super::Context;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// A stopped run needs this time until its machine gives back the disk.
const AFTER_A_STOP: Duration = Duration::from_secs(30);

/// Watches for ever.
pub async fn watch_disk(cx: Arc<Context>, state: watch::Sender<DiskState>) {
    loop {
        let stopped = match look(&cx).await {
            Ok((found, used)) => {
                let stopped =
                    matches!(found.pressure, Pressure::Critical(_)) && stop_greediest(&cx, used);
                publish(&cx, &state, found);
                stopped
            }
            // An unknown disk is not a full one. The marks of before stay.
            Err(why) => {
                tracing::warn!("the disk of this node could not be looked at: {why}");
                false
            }
        };
        sleep(if stopped { AFTER_A_STOP } else { INTERVAL }).await;
    }
}

type Used = Vec<(agentvm_core::names::DomainName, u64)>;

async fn look(cx: &Context) -> Result<(DiskState, Used), String> {
    let disk = cx.machines.host().disk().await.map_err(|why| agentvm_types::report(&why))?;
    let runs = cx.runs_folder.clone();
    let free = tokio::task::spawn_blocking(move || free_bytes(&runs).map(|free| (runs, free)));
    let (runs, free) = free
        .await
        .map_err(std::io::Error::other)
        .flatten()
        .map_err(|why| format!("{}: {why}", cx.runs_folder.display()))?;
    let space = |place: &Path, bytes: u64| FreeSpace {
        place: place.display().to_string(),
        free_mib: bytes >> 20,
    };
    let spaces = [space(&disk.place, disk.free_bytes), space(&runs, free)];
    let pressure = pressure(&spaces, cx.disk_limits);
    Ok((DiskState { pressure, kept: kept(cx) }, disk.machines))
}

fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    let space = rustix::fs::statvfs(folder)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// The output that each namespace keeps on this node.
fn kept(cx: &Context) -> HashMap<String, u64> {
    let mut kept = HashMap::new();
    for run in cx.caches.runs.state() {
        let Ok(run) = &run.0 else { continue };
        let here = run.status.as_ref().and_then(|status| status.node_name.as_deref());
        if here == Some(cx.node.as_str()) {
            *kept.entry(run.namespace().unwrap_or_default()).or_default() += kept_bytes(run);
        }
    }
    kept
}

/// `true` when a run was told to stop.
fn stop_greediest(cx: &Context, used: Used) -> bool {
    let used: HashMap<_, _> = used.into_iter().collect();
    let executing = cx.machines.executing().into_iter();
    let Some((machine, run)) = greediest(executing.map(|(machine, run)| {
        let bytes = used.get(&machine).copied().unwrap_or(0);
        ((machine, run), bytes)
    })) else {
        return false;
    };
    tracing::warn!(
        %machine,
        %run,
        "the disk is nearly full: the run of the largest machine is stopped"
    );
    cx.machines.stop(&run, StopCause::DiskFull);
    true
}

/// Pools that lack room, and runs that wait, look again when the disk has changed.
fn publish(cx: &Context, state: &watch::Sender<DiskState>, found: DiskState) {
    let was = state.borrow().pressure.why().is_some();
    let is = found.pressure.why();
    if was != is.is_some() {
        if let Some(why) = is {
            tracing::warn!("nothing new begins on this node: {why}");
        } else {
            tracing::info!("the disk of this node has space again");
        }
    }
    let changed = was != is.is_some() || state.borrow().kept != found.kept;
    state.send_replace(found);
    if changed {
        for pool in cx.caches.pools.state() {
            if let Some(uid) = pool.meta().uid.clone() {
                cx.machines.look_again(&PoolUid::new(uid));
            }
        }
    }
}
