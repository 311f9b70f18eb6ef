//! This node's entry in a pool's status: the machines, and one reason why there are not more.

use agentvm_crds::{NetworkMode, PoolNode, PoolReason, ReusePolicy};

use agentvm_types::{NodeName, Tier, TierReport};

use super::{Blocked, Plan, PoolFacts, SlotSeen, ValidPool, budget::no_room, limits};
use crate::status::clip;

/// The longest message of an entry, bytes: a hundred nodes that all have a lot to say fit into a
/// status.
const MAX_MESSAGE: usize = 320;
/// The limit of the two texts about tiers. The failure is at the end of a text, after the name of a
/// machine.
const MAX_TIER_MESSAGE: usize = 192;

/// The number of machines in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub warm: u32,
    pub claimed: u32,
    pub creating: u32,
    pub resetting: u32,
    pub quarantined: u32,
    /// All machines that take a slot.
    pub total: u32,
}

impl Counts {
    pub fn of(seen: &PoolFacts) -> Self {
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

/// A node's facts about a pool besides its slots.
#[derive(Clone, Debug)]
pub struct NodeFacts<'a> {
    pub node: &'a NodeName,
    pub generation: i64,
    /// `KVM`, `TCG`, or `Unknown`.
    pub accelerator: &'a str,
    pub tier: TierReport,
    /// The unshared bytes of each idle machine.
    pub unshared: Vec<u64>,
    /// The generation whose network policy is in force here.
    pub network_generation: Option<i64>,
    /// Why the last machine could not be made, after failures.
    pub last_error: Option<(PoolReason, &'a str)>,
}

/// This node's entry, without its charges.
pub fn node_entry(
    want: &ValidPool,
    seen: &PoolFacts,
    plan: &Plan,
    facts: NodeFacts<'_>,
) -> PoolNode {
    let counts = Counts::of(seen);
    let (reason, mut message) = explain(want, seen, plan, counts, facts.last_error);
    if let Some(note) = note(want) {
        message = format!("{message}; {note}");
    }
    let int = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let tier = asked_tier(want, facts.tier);
    PoolNode {
        name: facts.node.to_string(),
        observed_generation: facts.generation,
        min: int(want.min),
        max: int(want.max),
        warm: int(counts.warm),
        claimed: int(counts.claimed),
        creating: int(counts.creating),
        resetting: int(counts.resetting),
        quarantined: int(counts.quarantined),
        total: int(counts.total),
        accelerator: facts.accelerator.to_owned(),
        tier: tier.tier.as_str().to_owned(),
        tier_message: Some(tier.why_not_better)
            .filter(|why| !why.is_empty())
            .map(|why| clip(&why, MAX_TIER_MESSAGE)),
        reset_trouble: tier.degraded.map(|why| clip(&why, MAX_TIER_MESSAGE)),
        charged_time: None,
        network_generation: facts.network_generation,
        limits: Some(limits::of(want)),
        unshared_memory_bytes: median_mib(facts.unshared),
        reason: reason.as_str().to_owned(),
        message: clip(&message, MAX_MESSAGE),
    }
}

/// A pool that does not want resets in place has none, whatever the host can do.
fn asked_tier(want: &ValidPool, tier: TierReport) -> TierReport {
    let asked = match (want.reuse_policy, want.max_reuses) {
        (ReusePolicy::Never, _) => "spec.reusePolicy: Never asks for a fresh process for every run",
        (ReusePolicy::VerifiedReset, 0) => {
            "spec.maxReuses: 0 asks for a fresh process for every run"
        }
        (ReusePolicy::VerifiedReset, _) => return tier,
    };
    if tier.tier == Tier::Boot {
        return tier;
    }
    TierReport::limited_to(Tier::Fresh, asked)
}

/// In whole MiB, rounded up: a page more or less is no news.
fn median_mib(mut bytes: Vec<u64>) -> Option<i64> {
    const MIB: u64 = 1 << 20;
    bytes.sort_unstable();
    let median = bytes.get(bytes.len() / 2)?.div_ceil(MIB).saturating_mul(MIB);
    i64::try_from(median).ok()
}

/// A property that people may not expect of a pool with which nothing is wrong.
fn note(want: &ValidPool) -> Option<&'static str> {
    let asks_nobody =
        want.network_mode == NetworkMode::NatFiltered && want.policy.resolvers.is_empty();
    asks_nobody.then_some(
        "no names can be looked up: this node names no DNS server that machines can ask; \
         set spec.network.resolver or network.resolvers",
    )
}

fn explain(
    want: &ValidPool,
    seen: &PoolFacts,
    plan: &Plan,
    counts: Counts,
    last_error: Option<(PoolReason, &str)>,
) -> (PoolReason, String) {
    let Counts { warm, claimed, creating, resetting, quarantined, total } = counts;
    let mut have = format!("{warm} of {} machines ready, {claimed} in use", want.min);
    if quarantined > 0 {
        have = format!("{have}, {quarantined} quarantined");
    }
    if let Err(Blocked { reason, message }) = &seen.golden {
        return (*reason, message.clone());
    }
    if plan.no_room_for > 0 {
        let short = plan.no_room_for;
        return (PoolReason::NoCapacity, format!("{have}; {}", no_room(short, &seen.room)));
    }
    if warm >= want.min {
        return (PoolReason::Filled, have);
    }
    if let Some((reason, error)) = last_error {
        return (reason, format!("{have}; the last machine could not be made: {error}"));
    }
    if total >= want.max && creating + resetting == 0 {
        return (PoolReason::Busy, format!("{have}; max {} is reached", want.max));
    }
    (PoolReason::Filling, format!("{have}, {} in the making", creating + resetting))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        names::GoldenKey,
        pool::fixture::{facts, pool},
    };

    fn world(slots: impl IntoIterator<Item = (u32, SlotSeen)>) -> PoolFacts {
        let golden = Ok(GoldenKey::from_recorded("k"));
        PoolFacts {
            slots: slots.into_iter().collect(),
            queued: 0,
            room: 10.into(),
            golden,
            hold_until: None,
        }
    }

    fn entry(want: &ValidPool, tier: TierReport, unshared: Vec<u64>) -> PoolNode {
        let facts = NodeFacts { accelerator: "KVM", tier, unshared, ..facts() };
        node_entry(want, &world([(0, SlotSeen::Claimed)]), &Plan::default(), facts)
    }

    #[test]
    fn every_slot_counts_and_quarantine_is_named() {
        let until = jiff::Timestamp::UNIX_EPOCH;
        let slots = [
            SlotSeen::Resetting,
            SlotSeen::Quarantined { until },
            SlotSeen::Ending,
            SlotSeen::Claimed,
        ];
        let seen = world((0..).zip(slots));
        let entry = node_entry(&pool(1, 4), &seen, &Plan::default(), facts());
        assert_eq!((entry.resetting, entry.quarantined, entry.claimed, entry.total), (1, 1, 1, 4));
        assert_eq!(
            entry.message,
            "0 of 1 machines ready, 1 in use, 1 quarantined, 1 in the making"
        );
        assert_eq!(entry.reason, "Filling", "a machine that is being reset is on its way");
    }

    #[test]
    fn the_tier_is_the_hosts_unless_the_pool_wants_none() {
        let fine = entry(&pool(1, 4), TierReport::in_place(), vec![]);
        assert_eq!(
            (fine.tier.as_str(), fine.tier_message, fine.reset_trouble),
            ("InPlace", None, None)
        );
        let never = ValidPool { reuse_policy: ReusePolicy::Never, ..pool(1, 4) };
        let never = entry(&never, TierReport::in_place(), vec![]);
        assert_eq!(never.tier, "Fresh");
        assert!(never.tier_message.unwrap().starts_with("spec.reusePolicy"));
        let boot = TierReport::limited_to(Tier::Boot, "no migration");
        let none = entry(&ValidPool { max_reuses: 0, ..pool(1, 4) }, boot, vec![]);
        assert_eq!(
            (none.tier.as_str(), none.tier_message.as_deref()),
            ("Boot", Some("no migration"))
        );
    }

    #[test]
    fn a_pool_whose_machines_can_look_nothing_up_says_so() {
        let message = |network_mode| {
            let want = ValidPool { network_mode, ..pool(1, 4) };
            assert_eq!(want.policy.resolvers, [] as [std::net::Ipv4Addr; 0]);
            entry(&want, TierReport::in_place(), vec![]).message
        };
        assert!(message(NetworkMode::NatFiltered).contains("; no names can be looked up"));
        assert!(!message(NetworkMode::Isolated).contains("names"));
        assert!(!message(NetworkMode::Bridge).contains("names"), "another server answers there");
    }
}
