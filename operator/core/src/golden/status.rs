//! The status of a golden: this node's entry, and the conditions over all entries.

use std::collections::BTreeSet;

use super::Local;
use crate::golden::DeviceLayout;
use crate::status::{Decided, find, settle};
use agentvm_crds::{
    Condition, ConditionStatus, GoldenNode, GoldenNodeState, GoldenReason, GoldenSnapshotStatus,
    condition_type,
};
use agentvm_types::NodeName;

/// This node's entry for a layout, without the fields of a captured golden.
pub fn node_entry(node: &NodeName, layout: DeviceLayout, local: &Local) -> GoldenNode {
    let (state, message) = match local {
        Local::Absent => (GoldenNodeState::Pending, None),
        Local::Queued => {
            (GoldenNodeState::Pending, Some("waits for another capture on this node".to_owned()))
        }
        Local::Capturing { doing } => (GoldenNodeState::Preparing, Some(doing.clone())),
        Local::Ready => (GoldenNodeState::Ready, None),
        Local::Failed { reason, message, .. } => (
            GoldenNodeState::Failed,
            Some(crate::status::clip(&format!("{}: {message}", reason.as_str()), 1024)),
        ),
    };
    GoldenNode {
        name: node.to_string(),
        layout: layout.as_str().to_owned(),
        state,
        digest: None,
        key: None,
        memory_bytes: None,
        boot_seconds: None,
        captured_time: None,
        message,
    }
}

/// The status with this node's entries in it, one for each layout. The conditions are a function of
/// all entries. `local` is the result of [`super::least`] for this node's.
pub fn next_status(
    old: &GoldenSnapshotStatus,
    digest: Option<String>,
    entries: Vec<GoldenNode>,
    local: &Local,
    decided: Decided,
) -> GoldenSnapshotStatus {
    let ours = |node: &GoldenNode| entries.iter().any(|entry| entry.name == node.name);
    let mut nodes: Vec<GoldenNode> = old.nodes.iter().filter(|node| !ours(node)).cloned().collect();
    nodes.extend(entries);
    nodes.sort_by(|a, b| (&a.name, &a.layout).cmp(&(&b.name, &b.layout)));
    let conditions = settle(&old.conditions, conditions(&nodes, local, decided));
    GoldenSnapshotStatus { observed_generation: decided.generation, digest, nodes, conditions }
}

fn conditions(nodes: &[GoldenNode], local: &Local, decided: Decided) -> Vec<Condition> {
    let names = |of: fn(&GoldenNode) -> bool| {
        nodes.iter().filter(|n| of(n)).map(|n| &n.name).collect::<BTreeSet<_>>()
    };
    let all = names(|_| true).len();
    let ready = all - names(|n| n.state != GoldenNodeState::Ready).len();
    let count = format!("captured on {ready} of {all} nodes");
    let make = |type_, status, reason: GoldenReason, message: &str| {
        decided.condition(type_, status, reason.as_str(), message)
    };
    let unfinished = match local {
        Local::Ready => None,
        Local::Absent | Local::Queued => Some((GoldenReason::Pending, count.clone())),
        Local::Capturing { doing } => Some((GoldenReason::Capturing, doing.clone())),
        Local::Failed { reason, message, .. } => Some((*reason, message.clone())),
    };
    let Some((reason, message)) = unfinished else {
        let status = if ready == all { ConditionStatus::True } else { ConditionStatus::False };
        return vec![make(condition_type::READY, status, GoldenReason::Captured, &count)];
    };
    let mut list = vec![make(condition_type::READY, ConditionStatus::False, reason, &message)];
    match local {
        Local::Failed { retry_at: None, .. } => {
            list.push(make(condition_type::STALLED, ConditionStatus::True, reason, &message));
        }
        _ => list.push(make(condition_type::RECONCILING, ConditionStatus::True, reason, &message)),
    }
    list
}

/// A change that people should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The golden is captured.
    pub good: bool,
    pub reason: String,
    pub message: String,
}

/// The news between two statuses: the capture is done, or it failed in another way than before.
pub fn news(old: &GoldenSnapshotStatus, next: &GoldenSnapshotStatus) -> Option<News> {
    let now = find(&next.conditions, condition_type::READY)?;
    let before = find(&old.conditions, condition_type::READY).map(|c| c.reason.as_str());
    let quiet = [GoldenReason::Pending, GoldenReason::Capturing]
        .iter()
        .any(|reason| reason.as_str() == now.reason);
    if quiet || before == Some(now.reason.as_str()) {
        return None;
    }
    let good = now.reason == GoldenReason::Captured.as_str();
    Some(News { good, reason: now.reason.clone(), message: now.message.clone() })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn status(local: &Local) -> GoldenSnapshotStatus {
        next_status(
            &GoldenSnapshotStatus::default(),
            None,
            vec![entry("n1", local)],
            local,
            decided(),
        )
    }

    fn decided() -> Decided {
        Decided { generation: Some(3), now: Timestamp::from_second(5).unwrap() }
    }

    fn entry(node: &str, local: &Local) -> GoldenNode {
        node_entry(&NodeName::new(node), DeviceLayout::Nic, local)
    }

    #[test]
    fn every_state_says_why_it_is_not_done_yet() {
        let failed = |retry_at| Local::Failed {
            reason: GoldenReason::SetupFailed,
            message: "spec.setup.steps[0] exited with 1".into(),
            retry_at,
        };
        let stalled = status(&failed(None));
        assert_eq!(find(&stalled.conditions, "Ready").unwrap().status, ConditionStatus::False);
        assert_eq!(find(&stalled.conditions, "Stalled").unwrap().reason, "SetupFailed");
        assert!(
            find(&status(&failed(Some(Timestamp::UNIX_EPOCH))).conditions, "Stalled").is_none()
        );
        let busy = status(&Local::Capturing { doing: "boots".into() });
        assert_eq!(find(&busy.conditions, "Reconciling").unwrap().message, "boots");
        let ready = status(&Local::Ready);
        assert_eq!(find(&ready.conditions, "Ready").unwrap().status, ConditionStatus::True);
        assert_eq!(ready.conditions.len(), 1);
        assert_eq!(ready.observed_generation, Some(3));
    }

    #[test]
    fn people_hear_of_a_capture_that_is_done_and_of_each_new_failure() {
        let failed =
            |reason| status(&Local::Failed { reason, message: "no".into(), retry_at: None });
        let before = status(&Local::Absent);
        let heard = |old: &GoldenSnapshotStatus, next: &GoldenSnapshotStatus| {
            news(old, next).map(|news| (news.good, news.reason))
        };
        assert_eq!(heard(&before, &status(&Local::Capturing { doing: "boots".into() })), None);
        let done = status(&Local::Ready);
        assert_eq!(heard(&before, &done), Some((true, "Captured".to_owned())));
        assert_eq!(heard(&done, &done), None);
        let setup = failed(GoldenReason::SetupFailed);
        assert_eq!(heard(&before, &setup), Some((false, "SetupFailed".to_owned())));
        assert_eq!(heard(&setup, &setup), None);
        let invalid = failed(GoldenReason::InvalidSpec);
        assert_eq!(heard(&setup, &invalid), Some((false, "InvalidSpec".to_owned())));
    }

    #[test]
    fn another_node_keeps_its_entry_and_counts() {
        let old = status(&Local::Capturing { doing: "boots".into() });
        let both =
            next_status(&old, None, vec![entry("n2", &Local::Ready)], &Local::Ready, decided());
        assert_eq!(both.nodes.len(), 2);
        let ready = find(&both.conditions, "Ready").unwrap();
        assert_eq!(
            (ready.status, ready.message.as_str()),
            (ConditionStatus::False, "captured on 1 of 2 nodes")
        );
    }

    #[test]
    fn a_node_has_an_entry_for_each_layout_and_counts_once() {
        let both = [DeviceLayout::Nic, DeviceLayout::Isolated]
            .map(|layout| node_entry(&NodeName::new("n1"), layout, &Local::Ready))
            .to_vec();
        let old = next_status(&status(&Local::Ready), None, both, &Local::Ready, decided());
        assert_eq!(
            old.nodes.iter().map(|n| n.layout.as_str()).collect::<Vec<_>>(),
            ["Isolated", "Nic"]
        );
        assert_eq!(find(&old.conditions, "Ready").unwrap().message, "captured on 1 of 1 nodes");
        let one =
            next_status(&old, None, vec![entry("n1", &Local::Ready)], &Local::Ready, decided());
        assert_eq!(one.nodes.len(), 1, "nobody needs the other any more");
    }
}
