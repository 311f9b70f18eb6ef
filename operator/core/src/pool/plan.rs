//! Which slots to fill and which to empty.
//!
//! Slots are numbered 0 to max-1 and have derived names, so that creating one twice is noticed by
//! the host. A slot that is being made, used, reset or ended is never touched: the plan only fills
//! empty slots and retires idle and quarantined ones.

use std::collections::BTreeMap;

use agentvm_crds::PoolReason;
use jiff::{Timestamp, ToSpan};

use super::{Room, ValidPool};
use crate::names::GoldenKey;

/// The time, in seconds, that a surplus machine stays idle before it goes. While one machine is
/// claimed, another is made in its place. When the first comes back from its reset, there is one
/// too many. With runs that follow each other, each would cost a creation and a removal.
const LINGER: i64 = 10;

/// The state of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotSeen {
    Creating,
    Idle {
        since: Timestamp,
        golden: GoldenKey,
    },
    Claimed,
    /// On its way back to the golden state; idle soon.
    Resetting,
    /// Failed its proof; kept for a look until then.
    Quarantined {
        until: Timestamp,
    },
    /// Being removed; the slot is free when it is gone.
    Ending,
}

/// Why no machine can be made at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    pub reason: PoolReason,
    pub message: String,
}

/// All facts about a pool on this node.
#[derive(Clone, Debug)]
pub struct PoolFacts {
    pub slots: BTreeMap<u32, SlotSeen>,
    /// Runs that wait for a machine of this pool.
    pub queued: u32,
    /// The room for more machines of this size on the node.
    pub room: Room,
    /// The golden of new machines, or why there is none.
    pub golden: Result<GoldenKey, Blocked>,
    /// After failures: no new machine before this time.
    pub hold_until: Option<Timestamp>,
}

/// The step to take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub create: Vec<u32>,
    pub retire: Vec<u32>,
    /// The time of the next look, whatever happens until then.
    pub wake: Option<Timestamp>,
    /// Machines that are wanted and don't fit on the node.
    pub no_room_for: u32,
}

/// Decides; never acts.
pub fn plan(want: &ValidPool, seen: &PoolFacts, now: Timestamp) -> Plan {
    let retire = retired(want, seen, now);
    let mut plan = Plan { wake: next_expiry(want, seen, &retire, now), retire, ..Plan::default() };
    if seen.golden.is_err() {
        return plan;
    }
    let ready = ready_or_coming(seen, &plan.retire);
    let wanted = want.min.max(seen.queued).saturating_sub(ready);
    if wanted == 0 {
        return plan;
    }
    if let Some(at) = seen.hold_until.filter(|at| *at > now) {
        plan.wake = Some(plan.wake.map_or(at, |w| w.min(at)));
        return plan;
    }
    let free = want.max.saturating_sub(count(seen.slots.len()));
    let missing = wanted.min(free);
    let fits = missing.min(seen.room.machines);
    plan.no_room_for = missing - fits;
    plan.create =
        (0..want.max).filter(|n| !seen.slots.contains_key(n)).take(fits as usize).collect();
    // One machine must be there when a run waits, whatever `min` says.
    let needed = want.min.max(u32::from(seen.queued > 0)).saturating_sub(ready);
    plan.retire.extend(yielding(seen, &plan, needed.saturating_sub(fits)));
    plan
}

/// Whether the pool has a machine on this node or is to get one, whatever its network says.
pub fn needs_policy(want: &ValidPool, seen: &PoolFacts) -> bool {
    !seen.slots.is_empty() || (seen.golden.is_ok() && want.min.max(seen.queued) > 0)
}

/// The number of machines that the pool could use at this moment, on a node that has them all.
pub fn wanted(want: &ValidPool, seen: &PoolFacts, now: Timestamp) -> u32 {
    let has = count(seen.slots.len());
    if seen.golden.is_err() || seen.hold_until.is_some_and(|at| at > now) {
        // It can make none, so no room is kept for it.
        return has.min(want.max);
    }
    // The plan counts on these machines no more, and they take their room until they are gone.
    let others = has - ready_or_coming(seen, &retired(want, seen, now));
    others.saturating_add(want.min.max(seen.queued)).min(want.max)
}

/// Idle machines that stay, and those that will be idle soon: no machine is made in their place.
fn ready_or_coming(seen: &PoolFacts, retire: &[u32]) -> u32 {
    let stays = |(slot, state): &(&u32, &SlotSeen)| match state {
        SlotSeen::Idle { .. } => !retire.contains(slot),
        SlotSeen::Creating | SlotSeen::Resetting => true,
        SlotSeen::Claimed | SlotSeen::Quarantined { .. } | SlotSeen::Ending => false,
    };
    count(seen.slots.iter().filter(stays).count())
}

/// Quarantine yields to availability: a quarantined machine must not keep runs waiting until a
/// person has looked at it. If machines are missing because there is no slot or no room, as many
/// quarantined machines go, those with the least time left first.
fn yielding(seen: &PoolFacts, plan: &Plan, lacking: u32) -> Vec<u32> {
    // Machines that are on their way out make place without that.
    let leaving = seen
        .slots
        .iter()
        .filter(|(slot, state)| **state == SlotSeen::Ending || plan.retire.contains(slot));
    let lacking = lacking.saturating_sub(count(leaving.count()));
    let mut kept: Vec<(Timestamp, u32)> =
        quarantined(seen).filter(|(_, slot)| !plan.retire.contains(slot)).collect();
    kept.sort_unstable();
    kept.into_iter().take(lacking as usize).map(|(_, slot)| slot).collect()
}

fn quarantined(seen: &PoolFacts) -> impl Iterator<Item = (Timestamp, u32)> + '_ {
    seen.slots.iter().filter_map(|(slot, state)| match state {
        SlotSeen::Quarantined { until } => Some((*until, *slot)),
        _ => None,
    })
}

/// Machines to end. Idle ones: made of another golden, more than wanted, or too old (one at a time,
/// so that the pool isn't empty). Quarantined ones: their time is over, or the pool has shrunk
/// below their slot.
fn retired(want: &ValidPool, seen: &PoolFacts, now: Timestamp) -> Vec<u32> {
    let idle: Vec<(u32, Timestamp, bool)> = seen
        .slots
        .iter()
        .filter_map(|(slot, state)| match state {
            SlotSeen::Idle { since, golden } => {
                let outdated = seen.golden.as_ref().is_ok_and(|wanted| wanted != golden);
                Some((*slot, *since, outdated))
            }
            _ => None,
        })
        .collect();
    let mut retire: Vec<u32> =
        idle.iter().filter(|(_, _, outdated)| *outdated).map(|(slot, ..)| *slot).collect();
    let mut current: Vec<_> = idle.iter().filter(|(_, _, outdated)| !outdated).collect();
    let keep = want.min.max(seen.queued);
    // The highest slots go first: a pool that shrinks keeps the low numbers.
    let beyond_max = current
        .iter()
        .filter(|(slot, ..)| *slot >= want.max)
        .map(|(slot, ..)| *slot)
        .collect::<Vec<_>>();
    retire.extend(&beyond_max);
    current.retain(|(slot, ..)| *slot < want.max);
    let surplus = current.len().saturating_sub(keep as usize);
    let lingered = current.iter().rev().filter(|(_, since, _)| lingers_until(*since) <= now);
    let gone: Vec<u32> = lingered.map(|(slot, ..)| *slot).take(surplus).collect();
    current.retain(|(slot, ..)| !gone.contains(slot));
    retire.extend(gone);
    let busy = seen
        .slots
        .values()
        .any(|s| matches!(s, SlotSeen::Creating | SlotSeen::Resetting | SlotSeen::Ending));
    if retire.is_empty() && !busy {
        let oldest = current.iter().min_by_key(|(_, since, _)| *since);
        retire.extend(
            oldest.filter(|(_, since, _)| expires(want, *since) <= now).map(|(slot, ..)| *slot),
        );
    }
    retire.extend(
        quarantined(seen)
            .filter(|(until, slot)| *until <= now || *slot >= want.max)
            .map(|(_, slot)| slot),
    );
    retire.sort_unstable();
    retire
}

fn next_expiry(
    want: &ValidPool,
    seen: &PoolFacts,
    retire: &[u32],
    now: Timestamp,
) -> Option<Timestamp> {
    let stays =
        || seen.slots.iter().filter(|(slot, _)| !retire.contains(slot)).map(|(_, state)| state);
    let idle = || {
        stays().filter_map(|state| {
            if let SlotSeen::Idle { since, .. } = state { Some(*since) } else { None }
        })
    };
    let too_many = count(idle().count()) > want.min.max(seen.queued);
    let lingering = idle().map(lingers_until).filter(|until| too_many && *until > now);
    let quarantines = stays().filter_map(|state| {
        if let SlotSeen::Quarantined { until } = state { Some(*until) } else { None }
    });
    idle().map(|since| expires(want, since)).chain(lingering).chain(quarantines).min()
}

fn lingers_until(since: Timestamp) -> Timestamp {
    since.checked_add(LINGER.seconds()).unwrap_or(Timestamp::MAX)
}

fn expires(want: &ValidPool, since: Timestamp) -> Timestamp {
    since.checked_add(i64::from(want.ttl_seconds).seconds()).unwrap_or(Timestamp::MAX)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pool::fixture::pool;

    const NONE: [u32; 0] = [];

    fn key(text: &str) -> GoldenKey {
        GoldenKey::from_recorded(text)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn seen(slots: impl IntoIterator<Item = (u32, SlotSeen)>) -> PoolFacts {
        PoolFacts {
            slots: slots.into_iter().collect(),
            queued: 0,
            room: 100.into(),
            golden: Ok(key("g")),
            hold_until: None,
        }
    }

    fn idle(since: i64) -> SlotSeen {
        SlotSeen::Idle { since: at(since), golden: key("g") }
    }

    #[test]
    fn an_empty_pool_fills_and_a_queue_makes_it_grow_up_to_max() {
        assert_eq!(plan(&pool(2, 4), &seen([]), at(0)).create, [0, 1]);
        let busy =
            PoolFacts { queued: 6, ..seen([(0, SlotSeen::Claimed), (1, SlotSeen::Claimed)]) };
        assert_eq!(plan(&pool(2, 4), &busy, at(0)).create, [2, 3]);
        let full = PoolFacts { room: 1.into(), ..seen([(0, SlotSeen::Claimed)]) };
        let tight = plan(&pool(3, 4), &full, at(0));
        assert_eq!((tight.create, tight.no_room_for), (vec![1], 2));
    }

    #[test]
    fn a_pool_wants_what_its_runs_can_use_and_nothing_that_it_cannot_make() {
        let claimed = || seen([(0, SlotSeen::Claimed), (1, idle(0))]);
        let queued = |queued| PoolFacts { queued, ..claimed() };
        assert_eq!(wanted(&pool(1, 4), &claimed(), at(0)), 2);
        assert_eq!(wanted(&pool(1, 4), &queued(2), at(0)), 3);
        assert_eq!(wanted(&pool(1, 4), &queued(90), at(0)), 4);
        // Machines that are of no use for runs take their room all the same.
        let kept = SlotSeen::Quarantined { until: at(9) };
        let of_no_use = seen([(0, kept), (1, SlotSeen::Ending), (2, SlotSeen::Claimed)]);
        assert_eq!(wanted(&pool(1, 9), &of_no_use, at(0)), 4);
        let outdated = SlotSeen::Idle { since: at(0), golden: key("old") };
        assert_eq!(wanted(&pool(1, 4), &seen([(0, outdated)]), at(0)), 2);
        let held = PoolFacts { hold_until: Some(at(9)), ..queued(90) };
        assert_eq!((wanted(&pool(1, 4), &held, at(8)), wanted(&pool(1, 4), &held, at(9))), (2, 4));
    }

    #[test]
    fn what_is_outdated_old_or_too_much_goes() {
        let other = SlotSeen::Idle { since: at(0), golden: key("old") };
        assert_eq!(plan(&pool(2, 4), &seen([(0, other), (1, idle(0))]), at(1)).retire, [0]);
        assert_eq!(plan(&pool(2, 4), &seen([(0, idle(50)), (1, idle(0))]), at(100)).retire, [1]);
        assert_eq!(
            plan(&pool(2, 4), &seen([(0, idle(50)), (1, idle(0))]), at(99)).wake,
            Some(at(100))
        );
    }

    #[test]
    fn what_is_more_than_wanted_lingers_for_the_next_run() {
        let world = seen([(0, idle(0)), (1, idle(5)), (2, idle(0))]);
        assert_eq!(
            plan(&pool(1, 4), &world, at(9)),
            Plan { wake: Some(at(10)), ..Plan::default() }
        );
        let later = plan(&pool(1, 4), &world, at(10));
        assert_eq!(
            (later.retire, later.wake),
            (vec![0, 2], Some(at(105))),
            "one has to stay, and it is the latest"
        );
        assert_eq!(plan(&pool(2, 4), &world, at(10)).retire, [2], "the highest slots first");
        let shrunk = seen([(0, idle(0)), (1, idle(0))]);
        assert_eq!(plan(&pool(1, 1), &shrunk, at(1)).retire, [1], "max is never passed for that");
    }

    #[test]
    fn nothing_is_made_while_there_is_nothing_to_make_it_of_or_after_failures() {
        let blocked = Blocked { reason: PoolReason::SnapshotMissing, message: String::new() };
        assert!(
            plan(&pool(2, 4), &PoolFacts { golden: Err(blocked), ..seen([]) }, at(0))
                .create
                .is_empty()
        );
        let held = plan(&pool(2, 4), &PoolFacts { hold_until: Some(at(9)), ..seen([]) }, at(0));
        assert_eq!((held.create, held.wake), (vec![], Some(at(9))));
    }

    #[test]
    fn nothing_is_made_in_the_place_of_a_machine_that_is_being_reset() {
        let world = seen([(0, SlotSeen::Resetting), (1, idle(0))]);
        assert_eq!(
            plan(&pool(2, 4), &world, at(1)),
            Plan { wake: Some(at(100)), ..Plan::default() }
        );
        let quarantined = seen([(0, SlotSeen::Quarantined { until: at(50) }), (1, idle(0))]);
        let plan = plan(&pool(2, 4), &quarantined, at(1));
        assert_eq!((plan.create, plan.retire, plan.wake), (vec![2], vec![], Some(at(50))));
    }

    #[test]
    fn a_quarantine_ends_with_its_time_or_when_the_pool_shrinks() {
        let world = seen([(0, idle(0)), (1, SlotSeen::Quarantined { until: at(50) })]);
        assert_eq!(plan(&pool(1, 4), &world, at(49)).retire, NONE);
        assert_eq!(plan(&pool(1, 4), &world, at(50)).retire, [1]);
        assert_eq!(plan(&pool(1, 1), &world, at(1)).retire, [1]);
    }

    #[test]
    fn quarantine_yields_where_it_takes_a_place_that_is_needed_and_the_oldest_first() {
        let kept = |until| SlotSeen::Quarantined { until: at(until) };
        let full = seen([(0, kept(90)), (1, kept(80)), (2, idle(0))]);
        assert_eq!(plan(&pool(2, 3), &full, at(1)).retire, [1], "no slot is free");
        assert_eq!(plan(&pool(1, 3), &full, at(1)).retire, NONE, "min is there");
        let no_room = PoolFacts { room: 0.into(), ..seen([(0, kept(90)), (1, kept(80))]) };
        assert_eq!(plan(&pool(1, 4), &no_room, at(1)).retire, [1], "the node is full");
        let leaving = seen([(0, kept(90)), (1, SlotSeen::Ending)]);
        assert_eq!(plan(&pool(1, 2), &leaving, at(1)).retire, NONE, "another slot will be free");
        let queued = PoolFacts { queued: 9, ..seen([(0, kept(90)), (1, kept(80))]) };
        assert_eq!(
            plan(&pool(0, 2), &queued, at(1)).retire,
            [1],
            "somebody waits, and nothing comes"
        );
        let held = PoolFacts { hold_until: Some(at(9)), ..full };
        assert_eq!(
            plan(&pool(2, 3), &held, at(1)).retire,
            NONE,
            "nothing would be made in its place"
        );
    }

    /// The events of a slot between two looks at the pool: anything that a host may do.
    fn step(slot: &SlotSeen, event: u8, now: Timestamp) -> Option<SlotSeen> {
        match (slot, event % 6) {
            (SlotSeen::Creating | SlotSeen::Resetting, 0) => {
                Some(SlotSeen::Idle { since: now, golden: key("g") })
            }
            (SlotSeen::Idle { .. }, 1) => Some(SlotSeen::Claimed),
            (SlotSeen::Claimed, 2) | (SlotSeen::Resetting, 3) => Some(SlotSeen::Ending),
            (SlotSeen::Claimed, 4) => Some(SlotSeen::Resetting),
            (SlotSeen::Creating | SlotSeen::Resetting, 5) => {
                Some(SlotSeen::Quarantined { until: FAR })
            }
            (SlotSeen::Creating, 3) | (SlotSeen::Ending, _) => None,
            (other, _) => Some(other.clone()),
        }
    }

    /// Longer than any test looks: only yielding ends such a quarantine.
    const FAR: Timestamp = Timestamp::constant(1_000_000, 0);

    proptest! {
        #[test]
        fn never_more_than_max_whatever_fails_and_a_settled_pool_plans_nothing(
            min in 0_u32..6, extra in 0_u32..6, room in 0_u32..12,
            events in proptest::collection::vec((any::<u8>(), 0_u32..10), 1..60),
        ) {
            let want = pool(min, (min + extra).max(1));
            let mut world = PoolFacts { room: room.into(), ..seen([]) };
            for (round, (event, queued)) in events.into_iter().enumerate() {
                let now = at(i64::try_from(round).unwrap() * 7);
                world.queued = queued;
                world.room = room.saturating_sub(u32::try_from(world.slots.len()).unwrap()).into();
                let plan = plan(&want, &world, now);
                for slot in &plan.create {
                    prop_assert!(world.slots.insert(*slot, SlotSeen::Creating).is_none(),
                        "slot {slot} was taken");
                }
                for slot in &plan.retire {
                    let was = world.slots.insert(*slot, SlotSeen::Ending);
                    let may_go = matches!(was,
                        Some(SlotSeen::Idle { .. } | SlotSeen::Quarantined { .. }));
                    prop_assert!(may_go, "only idle and quarantined machines are retired");
                }
                prop_assert!(world.slots.len() <= want.max as usize, "{} machines of {}",
                    world.slots.len(), want.max);
                prop_assert!(world.slots.len() <= room as usize);
                world.slots = world.slots.iter().filter_map(|(n, s)| step(s,
                    event ^ u8::try_from(*n).unwrap(), now).map(|s| (*n, s))).collect();
            }
            // Everything succeeds from now on: the pool comes to rest.
            world.queued = 0;
            let mut now = at(10_000);
            for round in 0..50 {
                now = at(10_000 + round);
                world.room = room.saturating_sub(u32::try_from(world.slots.len()).unwrap()).into();
                let plan = plan(&want, &world, now);
                for slot in &plan.create { world.slots.insert(*slot, SlotSeen::Idle { since: now,
                    golden: key("g") }); }
                for slot in &plan.retire { world.slots.remove(slot); }
                world.slots.retain(|_, s| !matches!(s, SlotSeen::Ending | SlotSeen::Claimed));
                for state in world.slots.values_mut() {
                    if matches!(state, SlotSeen::Creating | SlotSeen::Resetting) { *state =
                        SlotSeen::Idle { since: now, golden: key("g") }; }
                }
            }
            world.room = room.saturating_sub(u32::try_from(world.slots.len()).unwrap()).into();
            let rest = plan(&want, &world, now);
            prop_assert!(rest.create.is_empty() && rest.retire.is_empty(), "{rest:?} in {world:?}");
            let idle = world.slots.values().filter(|s| matches!(s, SlotSeen::Idle { .. })).count();
            prop_assert_eq!(count(idle), want.min.min(room),
                "quarantine does not keep a pool from its min: {:?}", world);
        }
    }
}
