//! The status of a pool: sums over the nodes' entries, and the conditions.

use crate::{
    invalid_spec::InvalidSpec,
    node::Nodes,
    status::{Decided, find, settle},
};
use agentvm_crds::{
    AgentVMPoolStatus, Condition, ConditionStatus, PoolNode, PoolReason, condition_type,
};

/// The status with this node's entry in it; all else is a function of the entries.
pub fn next_status(
    old: &AgentVMPoolStatus,
    entry: PoolNode,
    decided: Decided,
) -> AgentVMPoolStatus {
    let mut nodes: Vec<PoolNode> =
        old.nodes.iter().filter(|n| n.name != entry.name).cloned().collect();
    nodes.push(entry);
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let sum = |field: fn(&PoolNode) -> i32| nodes.iter().map(field).fold(0, i32::saturating_add);
    AgentVMPoolStatus {
        observed_generation: decided.generation,
        warm: sum(|n| n.warm),
        claimed: sum(|n| n.claimed),
        creating: sum(|n| n.creating),
        resetting: sum(|n| n.resetting),
        quarantined: sum(|n| n.quarantined),
        total: sum(|n| n.total),
        conditions: settle(&old.conditions, conditions(&nodes, was_ready(old), decided)),
        nodes,
        queue: old.queue.clone(),
    }
}

/// The status without the entries of nodes that are gone.
pub fn without_gone(old: &AgentVMPoolStatus, nodes: &Nodes) -> AgentVMPoolStatus {
    let mut status = old.clone();
    status.nodes.retain(|entry| !nodes.is_over_by_name(&entry.name));
    status
}

/// The status of a pool with an invalid spec: no node does anything for it.
pub fn invalid_status(
    old: &AgentVMPoolStatus,
    why: &InvalidSpec,
    decided: Decided,
) -> AgentVMPoolStatus {
    let (reason, message) = (PoolReason::InvalidSpec.as_str(), why.to_string());
    let make = |type_: &str, status| decided.condition(type_, status, reason, &message);
    let list = vec![
        make(condition_type::READY, ConditionStatus::False),
        make(condition_type::STALLED, ConditionStatus::True),
    ];
    let conditions = settle(&old.conditions, list);
    AgentVMPoolStatus { observed_generation: decided.generation, conditions, ..old.clone() }
}

fn is_fine(reason: &str) -> bool {
    [PoolReason::Filled, PoolReason::Filling, PoolReason::Busy]
        .iter()
        .any(|fine| fine.as_str() == reason)
}

fn was_ready(old: &AgentVMPoolStatus) -> bool {
    find(&old.conditions, condition_type::READY).is_some_and(|c| c.status == ConditionStatus::True)
}

fn conditions(nodes: &[PoolNode], was_ready: bool, decided: Decided) -> Vec<Condition> {
    let make = |type_: &str, status: ConditionStatus, reason: &str, message: &str| {
        decided.condition(type_, status, reason, message)
    };
    let yes =
        |condition: bool| if condition { ConditionStatus::True } else { ConditionStatus::False };
    // The worst node speaks for the pool; a busy one is as good as a filled one.
    let worst = nodes
        .iter()
        .find(|n| !is_fine(&n.reason))
        .or_else(|| nodes.iter().find(|n| n.reason == "Filling"));
    let (reason, message) = worst
        .or(nodes.first())
        .map_or(("Filling", ""), |n| (n.reason.as_str(), n.message.as_str()));
    let ready = nodes.iter().any(|n| n.warm + n.claimed > 0 || (n.min == 0 && is_fine(&n.reason)));
    // A pool whose last machine was just taken is as ready as before while it makes the next one.
    let ready = ready || (was_ready && nodes.iter().any(|n| is_fine(&n.reason)));
    let filling = nodes.iter().any(|n| n.creating > 0 || n.reason == "Filling");
    let trouble = nodes.iter().find(|n| !is_fine(&n.reason));
    let (degraded, why, detail) = degraded(nodes);
    let mut list = vec![
        make(condition_type::READY, yes(ready), reason, message),
        make(condition_type::PROGRESSING, yes(filling), reason, message),
        make(condition_type::DEGRADED, yes(degraded), why, &detail),
    ];
    if filling {
        list.push(make(condition_type::RECONCILING, ConditionStatus::True, reason, message));
    } else if let Some(node) = trouble.filter(|_| !ready) {
        list.push(make(
            condition_type::STALLED,
            ConditionStatus::True,
            &node.reason,
            &node.message,
        ));
    }
    list
}

/// The worst of the degradations: whether there is one, its reason, its message.
fn degraded(nodes: &[PoolNode]) -> (bool, &str, String) {
    if let Some(node) = nodes.iter().find(|n| !is_fine(&n.reason)) {
        return (true, &node.reason, node.message.clone());
    }
    if let Some((node, why)) = nodes.iter().find_map(|n| Some((n, n.reset_trouble.as_ref()?))) {
        let message =
            format!("node {} gives runs {} machines for a while: {why}", node.name, node.tier);
        return (true, PoolReason::ResetFailing.as_str(), message);
    }
    if let Some(node) = nodes.iter().find(|n| n.accelerator == "TCG") {
        let message = format!(
            "node {} emulates in software (TCG): correct, but an order of magnitude slower; see \
                `agentvm doctor`",
            node.name
        );
        return (true, PoolReason::SoftwareEmulation.as_str(), message);
    }
    (false, PoolReason::Healthy.as_str(), "nothing is wrong".to_owned())
}

/// The reason and the message that people should hear of: something new is wrong, and be it
/// emulation.
pub fn newly_degraded(
    old: &AgentVMPoolStatus,
    next: &AgentVMPoolStatus,
) -> Option<(String, String)> {
    let degraded = |status: &AgentVMPoolStatus| {
        find(&status.conditions, condition_type::DEGRADED)
            .filter(|c| c.status == ConditionStatus::True)
            .map(|c| (c.reason.clone(), c.message.clone()))
    };
    let (now, before) = (degraded(next)?, degraded(old).map(|before| before.0).unwrap_or_default());
    // Failing resets hid the emulation, which was there before.
    let better = before == PoolReason::ResetFailing.as_str()
        && now.0 == PoolReason::SoftwareEmulation.as_str();
    (before != now.0 && !better).then_some(now)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use agentvm_types::{Tier, TierReport};
    use jiff::Timestamp;

    use super::*;
    use crate::{
        names::GoldenKey,
        pool::{
            Blocked, NodeFacts, PoolFacts, SlotSeen, ValidPool, fixture, fixture::pool, node_entry,
            plan,
        },
    };

    fn status(
        want: &ValidPool,
        seen: &PoolFacts,
        error: Option<&str>,
        accelerator: &str,
    ) -> AgentVMPoolStatus {
        let now = Timestamp::UNIX_EPOCH;
        let plan = plan(want, seen, now);
        let entry = node_entry(
            want,
            seen,
            &plan,
            NodeFacts {
                last_error: error.map(|error| (PoolReason::CreateFailed, error)),
                ..facts(accelerator)
            },
        );
        next_status(&AgentVMPoolStatus::default(), entry, decided(now))
    }

    fn decided(now: Timestamp) -> Decided {
        Decided { generation: Some(1), now }
    }

    fn facts(accelerator: &str) -> NodeFacts<'_> {
        NodeFacts { generation: 1, accelerator, ..fixture::facts() }
    }

    fn world(slots: Vec<SlotSeen>, golden: Result<GoldenKey, Blocked>) -> PoolFacts {
        let slots: BTreeMap<u32, SlotSeen> = (0..).zip(slots).collect();
        PoolFacts { slots, queued: 0, room: 10.into(), golden, hold_until: None }
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
    fn resets_that_fail_again_and_again_degrade_a_pool_that_stays_ready() {
        let want = pool(1, 4);
        let seen = world(vec![idle(), SlotSeen::Resetting], Ok(key()));
        let plan = plan(&want, &seen, Timestamp::UNIX_EPOCH);
        let tier = TierReport {
            tier: Tier::Fresh,
            why_not_better: "InPlace fails".into(),
            degraded: Some("3 resets in a row failed, the last with memory: 3 pages".into()),
        };
        let entry = node_entry(&want, &seen, &plan, NodeFacts { tier, ..facts("TCG") });
        let status =
            next_status(&AgentVMPoolStatus::default(), entry, decided(Timestamp::UNIX_EPOCH));
        assert_eq!(check(&status, "Degraded"), (ConditionStatus::True, "ResetFailing".into()));
        assert!(find(&status.conditions, "Degraded").unwrap().message.contains("memory: 3 pages"));
        assert_eq!(check(&status, "Ready"), (ConditionStatus::True, "Filled".into()));
        assert_eq!((status.resetting, status.quarantined, status.total), (1, 0, 2));
    }

    #[test]
    fn readiness_does_not_flap_while_used_machines_are_replaced() {
        let want = pool(2, 4);
        let filled = status(&want, &world(vec![idle(), idle()], Ok(key())), None, "KVM");
        let next = |seen: &PoolFacts| {
            let plan = plan(&want, seen, Timestamp::UNIX_EPOCH);
            let entry = node_entry(&want, seen, &plan, facts("KVM"));
            next_status(&filled, entry, decided(Timestamp::UNIX_EPOCH))
        };
        let emptied = world(vec![SlotSeen::Creating, SlotSeen::Ending], Ok(key()));
        assert_eq!(check(&next(&emptied), "Ready").0, ConditionStatus::True);
        let blocked = Blocked { reason: PoolReason::HypervisorUnavailable, message: String::new() };
        assert_eq!(check(&next(&world(vec![], Err(blocked))), "Ready").0, ConditionStatus::False);
    }

    #[test]
    fn edited_limits_are_news_and_the_same_ones_are_none() {
        let seen = world(vec![idle()], Ok(key()));
        let before = status(&pool(1, 1), &seen, None, "KVM");
        let next = |want: &ValidPool| {
            let later = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(1);
            let entry = node_entry(want, &seen, &plan(want, &seen, later), facts("KVM"));
            next_status(&before, entry, decided(later))
        };
        assert_eq!(next(&pool(1, 1)), before);
        let mut edited = pool(1, 1);
        edited.limits.cpu_quota_percent = Some(50);
        let told = |status: &AgentVMPoolStatus| status.nodes[0].limits.unwrap().cpu_quota_percent;
        assert_eq!((told(&before), told(&next(&edited))), (None, Some(50)));
    }

    #[test]
    fn every_lack_has_its_reason() {
        let reason = |want: &ValidPool, seen: &PoolFacts, error| {
            check(&status(want, seen, error, "KVM"), "Ready").1
        };
        assert_eq!(
            reason(&pool(2, 4), &world(vec![SlotSeen::Creating], Ok(key())), None),
            "Filling"
        );
        assert_eq!(reason(&pool(2, 4), &world(vec![], Ok(key())), Some("no disk")), "CreateFailed");
        assert_eq!(
            reason(
                &pool(2, 2),
                &world(vec![SlotSeen::Claimed, SlotSeen::Claimed], Ok(key())),
                None
            ),
            "Busy"
        );
        let tight = PoolFacts { room: 0.into(), ..world(vec![], Ok(key())) };
        assert_eq!(reason(&pool(2, 2), &tight, None), "NoCapacity");
        let blocked =
            Blocked { reason: PoolReason::SnapshotMissing, message: "golden g isn't there".into() };
        let stuck = status(&pool(2, 2), &world(vec![], Err(blocked)), None, "KVM");
        assert_eq!(check(&stuck, "Stalled"), (ConditionStatus::True, "SnapshotMissing".into()));
        assert_eq!(check(&stuck, "Ready").0, ConditionStatus::False);
    }

    fn degraded_by(reason: PoolReason) -> AgentVMPoolStatus {
        let (type_, holds) = (condition_type::DEGRADED, reason != PoolReason::Healthy);
        let status = if holds { ConditionStatus::True } else { ConditionStatus::False };
        let condition =
            decided(Timestamp::UNIX_EPOCH).condition(type_, status, reason.as_str(), "");
        AgentVMPoolStatus { conditions: vec![condition], ..AgentVMPoolStatus::default() }
    }

    #[test]
    fn people_hear_of_what_is_newly_wrong_and_not_of_what_gets_better() {
        use PoolReason::{Healthy, ResetFailing, SoftwareEmulation};
        let said =
            |old, new| newly_degraded(&degraded_by(old), &degraded_by(new)).map(|said| said.0);
        assert_eq!(said(Healthy, ResetFailing).as_deref(), Some("ResetFailing"));
        assert_eq!(said(SoftwareEmulation, ResetFailing).as_deref(), Some("ResetFailing"));
        assert_eq!(said(ResetFailing, ResetFailing), None);
        assert_eq!(said(ResetFailing, SoftwareEmulation), None);
        assert_eq!(said(ResetFailing, Healthy), None);
    }
}
