//! What a pool's status says: this node's entry, sums over all entries, and the conditions.

use agentvm_crds::{AgentVMPoolStatus, Condition, ConditionStatus, PoolNode, PoolReason, condition_type};
use jiff::Timestamp;

use super::{Blocked, Plan, Seen, SlotSeen, ValidPool};
use crate::{
    defaults::InvalidSpec,
    status::{condition, find, settle},
};

/// How many machines are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub warm: u32,
    pub claimed: u32,
    pub creating: u32,
    pub resetting: u32,
    pub quarantined: u32,
    pub total: u32,
}

impl Counts {
    pub fn of(seen: &Seen) -> Self {
        let mut counts = Self::default();
        for slot in seen.slots.values() {
            match slot {
                SlotSeen::Creating => counts.creating += 1,
                SlotSeen::Idle { .. } => counts.warm += 1,
                SlotSeen::Claimed => counts.claimed += 1,
                SlotSeen::Resetting => counts.resetting += 1,
                SlotSeen::Quarantined { .. } => counts.quarantined += 1,
                SlotSeen::Ending => {}
            }
            counts.total += 1;
        }
        counts
    }
}

/// This node's entry: what is there, and in one reason why it isn't more.
pub fn node_entry(
    node: &str,
    generation: i64,
    want: &ValidPool,
    seen: &Seen,
    plan: &Plan,
    last_error: Option<&str>,
    accelerator: &str,
) -> PoolNode {
    let counts = Counts::of(seen);
    let (reason, message) = explain(want, seen, plan, counts, last_error);
    let int = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    PoolNode {
        name: node.to_owned(),
        observed_generation: generation,
        min: int(want.min),
        max: int(want.max),
        warm: int(counts.warm),
        claimed: int(counts.claimed),
        creating: int(counts.creating),
        accelerator: accelerator.to_owned(),
        tier: "Fresh".to_owned(),
        reason: reason.as_str().to_owned(),
        message: crate::status::clip(&message, 1024),
    }
}

fn explain(
    want: &ValidPool,
    seen: &Seen,
    plan: &Plan,
    counts: Counts,
    last_error: Option<&str>,
) -> (PoolReason, String) {
    let have = format!("{} of {} machines ready, {} in use", counts.warm, want.min, counts.claimed);
    if let Err(Blocked { reason, message }) = &seen.golden {
        return (*reason, message.clone());
    }
    if plan.no_room_for > 0 {
        let short = plan.no_room_for;
        return (PoolReason::NoCapacity, format!("{have}; this node has no room for {short} more (node budget)"));
    }
    if counts.warm >= want.min {
        return (PoolReason::Filled, have);
    }
    if let Some(error) = last_error {
        return (PoolReason::CreateFailed, format!("{have}; the last machine could not be made: {error}"));
    }
    if counts.total >= want.max && counts.creating == 0 {
        return (PoolReason::Busy, format!("{have}; max {} is reached", want.max));
    }
    (PoolReason::Filling, format!("{have}, {} in the making", counts.creating))
}

/// The status with this node's entry in it; all else is a function of the entries.
pub fn next_status(
    old: &AgentVMPoolStatus,
    generation: Option<i64>,
    entry: PoolNode,
    now: Timestamp,
) -> AgentVMPoolStatus {
    let mut nodes: Vec<PoolNode> = old.nodes.iter().filter(|n| n.name != entry.name).cloned().collect();
    nodes.push(entry);
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let sum = |field: fn(&PoolNode) -> i32| nodes.iter().map(field).fold(0, i32::saturating_add);
    let (warm, claimed, creating) = (sum(|n| n.warm), sum(|n| n.claimed), sum(|n| n.creating));
    AgentVMPoolStatus {
        observed_generation: generation,
        warm,
        claimed,
        creating,
        total: warm.saturating_add(claimed).saturating_add(creating),
        conditions: settle(&old.conditions, conditions(&nodes, was_ready(old), generation, now)),
        nodes,
    }
}

/// The status of a pool whose spec can't be carried out: no node does anything for it.
pub fn invalid_status(
    old: &AgentVMPoolStatus,
    generation: Option<i64>,
    why: &InvalidSpec,
    now: Timestamp,
) -> AgentVMPoolStatus {
    let (reason, message) = (PoolReason::InvalidSpec.as_str(), why.to_string());
    let make = |type_: &str, status| condition(type_, status, reason, &message, generation, now);
    let list =
        vec![make(condition_type::READY, ConditionStatus::False), make(condition_type::STALLED, ConditionStatus::True)];
    let conditions = settle(&old.conditions, list);
    AgentVMPoolStatus { observed_generation: generation, conditions, ..old.clone() }
}

fn is_fine(reason: &str) -> bool {
    [PoolReason::Filled, PoolReason::Filling, PoolReason::Busy].iter().any(|fine| fine.as_str() == reason)
}

fn was_ready(old: &AgentVMPoolStatus) -> bool {
    find(&old.conditions, condition_type::READY).is_some_and(|c| c.status == ConditionStatus::True)
}

fn conditions(nodes: &[PoolNode], was_ready: bool, generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let make = |type_: &str, status: ConditionStatus, reason: &str, message: &str| {
        condition(type_, status, reason, message, generation, now)
    };
    let yes = |condition: bool| if condition { ConditionStatus::True } else { ConditionStatus::False };
    // The worst node speaks for the pool; a busy one is as good as a filled one.
    let worst = nodes.iter().find(|n| !is_fine(&n.reason)).or_else(|| nodes.iter().find(|n| n.reason == "Filling"));
    let (reason, message) =
        worst.or(nodes.first()).map_or(("Filling", ""), |n| (n.reason.as_str(), n.message.as_str()));
    let ready = nodes.iter().any(|n| n.warm + n.claimed > 0 || (n.min == 0 && is_fine(&n.reason)));
    // A pool whose last machine was just used is as ready as before while it makes the next one.
    let ready = ready || (was_ready && nodes.iter().any(|n| is_fine(&n.reason)));
    let filling = nodes.iter().any(|n| n.creating > 0 || n.reason == "Filling");
    let trouble = nodes.iter().find(|n| !is_fine(&n.reason));
    let slow = nodes.iter().find(|n| n.accelerator == "TCG");
    let mut list = vec![
        make(condition_type::READY, yes(ready), reason, message),
        make(condition_type::PROGRESSING, yes(filling), reason, message),
        match (trouble, slow) {
            (Some(node), _) => make(condition_type::DEGRADED, ConditionStatus::True, &node.reason, &node.message),
            (None, Some(node)) => make(
                condition_type::DEGRADED,
                ConditionStatus::True,
                PoolReason::SoftwareEmulation.as_str(),
                &format!(
                    "node {} emulates in software (TCG): correct, but an order of magnitude slower; see `agentvm doctor`",
                    node.name
                ),
            ),
            (None, None) => {
                make(condition_type::DEGRADED, ConditionStatus::False, PoolReason::Healthy.as_str(), "nothing is wrong")
            }
        },
    ];
    if filling {
        list.push(make(condition_type::RECONCILING, ConditionStatus::True, reason, message));
    } else if let Some(node) = trouble.filter(|_| !ready) {
        list.push(make(condition_type::STALLED, ConditionStatus::True, &node.reason, &node.message));
    }
    list
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        names::GoldenKey,
        pool::{fixture::pool, plan},
    };

    fn status(want: &ValidPool, seen: &Seen, error: Option<&str>, accelerator: &str) -> AgentVMPoolStatus {
        let now = Timestamp::UNIX_EPOCH;
        let plan = plan(want, seen, now);
        next_status(
            &AgentVMPoolStatus::default(),
            Some(1),
            node_entry("n", 1, want, seen, &plan, error, accelerator),
            now,
        )
    }

    fn world(slots: Vec<SlotSeen>, golden: Result<GoldenKey, Blocked>) -> Seen {
        let slots: BTreeMap<u32, SlotSeen> = (0..).zip(slots).collect();
        Seen { slots, queued: 0, room: 10, golden, hold_until: None }
    }

    fn idle() -> SlotSeen {
        SlotSeen::Idle { since: Timestamp::UNIX_EPOCH, golden: key() }
    }

    fn key() -> GoldenKey {
        GoldenKey::from_recorded("k")
    }

    fn check(status: &AgentVMPoolStatus, type_: &str) -> (ConditionStatus, String) {
        let found = find(&status.conditions, type_).unwrap();
        (found.status, found.reason.clone())
    }

    #[test]
    fn a_filled_pool_is_ready_and_emulation_is_said_loudly() {
        let seen = world(vec![idle(), idle()], Ok(key()));
        let fast = status(&pool(2, 4), &seen, None, "KVM");
        assert_eq!(check(&fast, "Ready"), (ConditionStatus::True, "Filled".into()));
        assert_eq!(check(&fast, "Degraded"), (ConditionStatus::False, "Healthy".into()));
        assert!(find(&fast.conditions, "Reconciling").is_none());
        let slow = status(&pool(2, 4), &seen, None, "TCG");
        assert_eq!(check(&slow, "Degraded"), (ConditionStatus::True, "SoftwareEmulation".into()));
        assert_eq!((fast.warm, fast.claimed, fast.total), (2, 0, 2));
    }

    #[test]
    fn readiness_does_not_flap_while_used_machines_are_replaced() {
        let want = pool(2, 4);
        let filled = status(&want, &world(vec![idle(), idle()], Ok(key())), None, "KVM");
        let next = |seen: &Seen| {
            let plan = plan(&want, seen, Timestamp::UNIX_EPOCH);
            let entry = node_entry("n", 1, &want, seen, &plan, None, "KVM");
            next_status(&filled, Some(1), entry, Timestamp::UNIX_EPOCH)
        };
        let emptied = world(vec![SlotSeen::Creating, SlotSeen::Ending], Ok(key()));
        assert_eq!(check(&next(&emptied), "Ready").0, ConditionStatus::True);
        let blocked = Blocked { reason: PoolReason::HypervisorUnavailable, message: String::new() };
        assert_eq!(check(&next(&world(vec![], Err(blocked))), "Ready").0, ConditionStatus::False);
    }

    #[test]
    fn every_lack_has_its_reason() {
        let reason = |want: &ValidPool, seen: &Seen, error| check(&status(want, seen, error, "KVM"), "Ready").1;
        assert_eq!(reason(&pool(2, 4), &world(vec![SlotSeen::Creating], Ok(key())), None), "Filling");
        assert_eq!(reason(&pool(2, 4), &world(vec![], Ok(key())), Some("no disk")), "CreateFailed");
        assert_eq!(reason(&pool(2, 2), &world(vec![SlotSeen::Claimed, SlotSeen::Claimed], Ok(key())), None), "Busy");
        let tight = Seen { room: 0, ..world(vec![], Ok(key())) };
        assert_eq!(reason(&pool(2, 2), &tight, None), "NoCapacity");
        let blocked = Blocked { reason: PoolReason::SnapshotMissing, message: "golden g isn't there".into() };
        let stuck = status(&pool(2, 2), &world(vec![], Err(blocked)), None, "KVM");
        assert_eq!(check(&stuck, "Stalled"), (ConditionStatus::True, "SnapshotMissing".into()));
        assert_eq!(check(&stuck, "Ready").0, ConditionStatus::False);
    }
}
