//! Writes the status of a snapshot, and the Events that go with its changes.

use agentvm_core::{
    calendar,
    golden::{DeviceLayout, Local, News, Recipe, least, news, next_status, node_entry},
};
use agentvm_crds::{
    GoldenNode, GoldenReason, GoldenSnapshot, GoldenSnapshotStatus, SetupNetworkMode,
};
use agentvm_types::NodeName;
use jiff::Timestamp;
use kube::Resource;

use super::{
    super::{Context, error::Error, publish::publish},
    observe::{GoldenFacts, Part},
};

/// Writes the status where it differs, and an Event where people should hear of the change.
pub async fn publish_status(
    snapshot: &GoldenSnapshot,
    seen: &GoldenFacts,
    cx: &Context,
) -> Result<(), Error> {
    let old = snapshot.status.clone().unwrap_or_default();
    let next = status(snapshot, &old, seen, cx);
    let news = news(&old, &next);
    if publish(cx, snapshot, next).await?
        && let Some(News { good, reason, message }) = news
    {
        let about = snapshot.object_ref(&());
        if good {
            cx.recorder.normal(&about, &reason, "Capture", &message).await;
        } else {
            cx.recorder.warning(&about, &reason, "Capture", &message).await;
        }
    }
    Ok(())
}

fn status(
    snapshot: &GoldenSnapshot,
    old: &GoldenSnapshotStatus,
    seen: &GoldenFacts,
    cx: &Context,
) -> GoldenSnapshotStatus {
    let failed = |reason, message: &str| Local::Failed {
        reason,
        message: message.to_owned(),
        retry_at: None,
    };
    let (local, digest, entries) = match seen {
        GoldenFacts::Invalid(why) => {
            (failed(GoldenReason::InvalidSpec, &why.to_string()), None, vec![])
        }
        GoldenFacts::NoHost { digest, why } => {
            // It comes back by itself: not stalled.
            let retry_at = Some(Timestamp::UNIX_EPOCH);
            let reason = GoldenReason::HypervisorUnavailable;
            (Local::Failed { reason, message: why.clone(), retry_at }, Some(digest.clone()), vec![])
        }
        GoldenFacts::Here { recipe, parts, .. } => {
            let needed = parts
                .iter()
                .filter(|part| part.needed)
                .map(|part| (part.layout, part.local.clone()));
            let local = least(&needed.collect::<Vec<_>>());
            (
                local,
                Some(recipe.digest()),
                parts.iter().map(|part| entry(&cx.node, recipe, part)).collect(),
            )
        }
    };
    let entries = if entries.is_empty() {
        vec![node_entry(&cx.node, DeviceLayout::Nic, &local)]
    } else {
        entries
    };
    let decided = cx.decided(snapshot);
    let mut known = old.clone();
    known.nodes.retain(|entry| !cx.nodes.borrow().is_over_by_name(&entry.name));
    next_status(&known, digest, entries, &local, decided)
}

fn entry(node: &NodeName, recipe: &Recipe, part: &Part) -> GoldenNode {
    let mut entry = node_entry(node, part.layout, &part.local);
    entry.key = Some(part.key.to_string());
    if let Some(golden) = &part.golden {
        describe(&mut entry, golden);
    }
    let asked = !recipe.steps.is_empty() && recipe.setup_network != SetupNetworkMode::Isolated;
    if asked && part.layout == DeviceLayout::Isolated && entry.message.is_none() {
        entry.message = Some(
            "machines of this layout have no network device, and its setup had no network"
                .to_owned(),
        );
    }
    entry
}

fn describe(entry: &mut GoldenNode, golden: &agentvm_hypervisor::Golden) {
    entry.digest = Some(golden.digest.clone());
    entry.memory_bytes = i64::try_from(golden.memory_bytes).ok();
    entry.boot_seconds = Some(std::time::Duration::from_millis(golden.boot_millis).as_secs_f64());
    entry.captured_time = Timestamp::from_second(golden.captured).ok().map(calendar::text);
}
