//! The use of pools by the keys of their runs, as each node charges it.
//!
//! A node charges the time that its own machines had runs, up to a moment that stands in its entry
//! of the pool's status. Both stand in one status, so a charge is written once or not at all: not
//! twice after a restart, and not lost with a deleted run. The status is bounded, whatever number
//! of keys and runs there was.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use agentvm_crds::{AgentRun, AgentVMPoolStatus, Attempt, KeyUsage, PoolQueue};
use agentvm_types::{NodeName, RunUid};
use jiff::{Timestamp, ToSpan};

use crate::{
    calendar,
    run::{PoolName, entry},
};

/// The number of keys in a status: those that used most.
const MAX_KEYS: usize = 32;
/// Between two charges of a run that goes on. The end of a run is charged at once.
const CHARGE_SECONDS: i64 = 60;
/// The millionth parts that are left of a use after a minute. After sixty minutes it is a half.
const LEFT_AFTER_A_MINUTE: u64 = 988_514;
/// After so many minutes nothing is left.
const LONGEST_DECAY: i64 = 60 * 24 * 7;

/// A time during which a run had a machine of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Use {
    key: Arc<str>,
    from: Timestamp,
    /// `None`: it has the machine still.
    until: Option<Timestamp>,
}

/// The uses of this node that are not charged yet, or go on.
#[derive(Debug, Default)]
pub struct Ledger {
    pools: HashMap<PoolName, HashMap<(RunUid, i32), Use>>,
}

/// The next use of a pool, and the moment up to which this node has charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub queue: PoolQueue,
    pub charged: Timestamp,
}

impl Ledger {
    /// Notes the attempts that a run made on this node.
    pub fn note(&mut self, pool: &PoolName, run: &AgentRun, node: &NodeName) {
        let attempts = run.status.as_ref().map_or(&[][..], |status| &status.attempts);
        let ours = attempts.iter().filter(|attempt| attempt.node_name == node.as_str());
        let Some(entry) = entry(run) else { return };
        for attempt in ours {
            if let Some(it) = a_use(&entry.key, attempt) {
                let uses = self.pools.entry(pool.clone()).or_default();
                uses.insert((entry.uid.clone(), attempt.number), it);
            }
        }
    }

    /// A run is gone, or lost its machine without a trace: what it used until now stays.
    pub fn close(&mut self, pool: &PoolName, run: &RunUid, now: Timestamp) {
        let uses = self.pools.get_mut(pool).into_iter().flatten();
        for (_, it) in uses.filter(|((uid, _), it)| uid == run && it.until.is_none()) {
            it.until = Some(now.max(it.from));
        }
    }

    /// The next use of a pool. `None`: there is nothing to charge yet.
    pub fn charge(
        &self,
        pool: &PoolName,
        old: &AgentVMPoolStatus,
        node: &NodeName,
        now: Timestamp,
    ) -> Option<Charge> {
        let uses = self.pools.get(pool)?;
        let charged = charged(old, node);
        let pause = CHARGE_SECONDS.seconds();
        let due = uses.values().any(|it| {
            let from = it.from.max(charged);
            it.until.map_or_else(
                || from.checked_add(pause).is_ok_and(|at| at <= now),
                |until| until > from || (until == it.from && until > charged),
            )
        });
        if !due {
            return None;
        }
        let mut usage = decayed(old.queue.as_ref(), now);
        for it in uses.values() {
            let (from, until) = (it.from.max(charged), it.until.unwrap_or(now).min(now));
            if until > charged {
                let millis = u64::try_from(until.duration_since(from).as_millis()).unwrap_or(0);
                // A run of no time used a machine too.
                let seconds = millis.div_ceil(1000).max(1);
                let sum = usage.1.entry(it.key.clone()).or_default();
                *sum = sum.saturating_add(seconds);
            }
        }
        Some(Charge { queue: bounded(usage), charged: now })
    }

    /// The charge is written down: ended uses before it are done.
    pub fn charged(&mut self, pool: &PoolName, until: Timestamp) {
        let Some(uses) = self.pools.get_mut(pool) else { return };
        uses.retain(|_, it| it.until.is_none_or(|end| end > until));
        if uses.is_empty() {
            self.pools.remove(pool);
        }
    }

    /// The pool is gone, and its status with it.
    pub fn forget(&mut self, pool: &PoolName) {
        self.pools.remove(pool);
    }
}

/// The use of each key in a pool's status.
pub fn key_usage(status: &AgentVMPoolStatus) -> impl Iterator<Item = (&str, u64)> {
    let usage = status.queue.iter().flat_map(|queue| &queue.usage);
    usage.map(|it| (it.key.as_str(), u64::try_from(it.machine_seconds).unwrap_or(0)))
}

fn a_use(key: &Arc<str>, attempt: &Attempt) -> Option<Use> {
    let from = calendar::parse(&attempt.start_time)?;
    let until = match &attempt.end_time {
        Some(end) => Some(calendar::parse(end)?.max(from)),
        None => None,
    };
    Some(Use { key: key.clone(), from, until })
}

/// The moment up to which this node has charged.
fn charged(status: &AgentVMPoolStatus, node: &NodeName) -> Timestamp {
    let entry = status.nodes.iter().find(|entry| entry.name == node.as_str());
    let charged = entry.and_then(|entry| calendar::parse(entry.charged_time.as_deref()?));
    charged.unwrap_or(Timestamp::MIN)
}

/// The use at `now`, and the moment up to which whole minutes have passed.
fn decayed(old: Option<&PoolQueue>, now: Timestamp) -> (Timestamp, BTreeMap<Arc<str>, u64>) {
    let since = old.and_then(|old| calendar::parse(&old.decay_time)).unwrap_or(now);
    let minutes = now.duration_since(since).as_mins().clamp(0, LONGEST_DECAY);
    let left = |seconds: i64| {
        let mut seconds = u64::try_from(seconds).unwrap_or(0).min(u64::MAX / 1_000_000);
        for _ in 0..minutes {
            seconds = seconds * LEFT_AFTER_A_MINUTE / 1_000_000;
        }
        seconds
    };
    let usage = old.iter().flat_map(|old| &old.usage);
    let usage = usage.map(|it| (it.key.as_str().into(), left(it.machine_seconds))).collect();
    let until = if minutes == LONGEST_DECAY { now } else { since + minutes.minutes() };
    (until, usage)
}

fn bounded((decay_time, usage): (Timestamp, BTreeMap<Arc<str>, u64>)) -> PoolQueue {
    let mut most: Vec<(Arc<str>, u64)> =
        usage.into_iter().filter(|(_, seconds)| *seconds > 0).collect();
    most.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    most.truncate(MAX_KEYS);
    most.sort_unstable();
    let usage = most.into_iter().map(|(key, seconds)| KeyUsage {
        key: key.to_string(),
        machine_seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
    });
    PoolQueue { decay_time: calendar::text(decay_time), usage: usage.collect() }
}

#[cfg(test)]
mod tests {
    use agentvm_crds::AgentRunStatus;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::pool::fixture::{facts, pool};
    use crate::pool::{Plan, PoolFacts, node_entry};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn node() -> NodeName {
        NodeName::new("n")
    }

    fn name() -> PoolName {
        PoolName::new("ns", "p")
    }

    fn run(uid: &str, key: &str, from: i64, until: Option<i64>) -> AgentRun {
        let spec = json!({"queue": {"key": key}});
        let mut run = AgentRun::new(uid, serde_json::from_value(spec).unwrap());
        run.metadata.uid = Some(uid.to_owned());
        let attempt = Attempt {
            number: 1,
            node_name: "n".into(),
            node_id: None,
            vm_name: "m".into(),
            nonce: "00".into(),
            start_time: calendar::text(at(from)),
            end_time: until.map(|second| calendar::text(at(second))),
            reason: None,
            exit_code: None,
        };
        run.status = Some(AgentRunStatus { attempts: vec![attempt], ..AgentRunStatus::default() });
        run
    }

    /// The status after a charge is written.
    fn written(old: &AgentVMPoolStatus, charge: &Charge) -> AgentVMPoolStatus {
        let seen = PoolFacts {
            slots: BTreeMap::new(),
            queued: 0,
            room: 1.into(),
            golden: Ok(crate::names::GoldenKey::from_recorded("k")),
            hold_until: None,
        };
        let mut entry = node_entry(&pool(1, 1), &seen, &Plan::default(), facts());
        entry.charged_time = Some(calendar::text(charge.charged));
        AgentVMPoolStatus { nodes: vec![entry], queue: Some(charge.queue.clone()), ..old.clone() }
    }

    fn used(status: &AgentVMPoolStatus) -> Vec<(&str, u64)> {
        key_usage(status).collect()
    }

    #[test]
    fn a_deleted_run_stays_charged_and_a_restart_charges_nothing_twice() {
        let mut ledger = Ledger::default();
        let none = AgentVMPoolStatus::default();
        assert_eq!(ledger.charge(&name(), &none, &node(), at(9)), None);
        ledger.note(&name(), &run("a", "x", 0, None), &node());
        assert_eq!(ledger.charge(&name(), &none, &node(), at(59)), None, "too early");
        let first = ledger.charge(&name(), &none, &node(), at(60)).unwrap();
        let status = written(&none, &first);
        assert_eq!(used(&status), [("x", 60)]);
        ledger.charged(&name(), first.charged);
        ledger.close(&name(), &RunUid::new("a"), at(70));
        let second = ledger.charge(&name(), &status, &node(), at(71)).unwrap();
        let status = written(&status, &second);
        assert_eq!(used(&status), [("x", 70)]);
        // The answer of the write is lost: the status says that it was written.
        assert_eq!(ledger.charge(&name(), &status, &node(), at(72)), None);
        let mut restarted = Ledger::default();
        restarted.note(&name(), &run("a", "x", 0, Some(70)), &node());
        assert_eq!(restarted.charge(&name(), &status, &node(), at(72)), None);
        restarted.note(&name(), &run("b", "y", 71, Some(73)), &node());
        let third = restarted.charge(&name(), &status, &node(), at(73)).unwrap();
        assert_eq!(used(&written(&status, &third)), [("x", 70), ("y", 2)]);
    }

    #[test]
    fn a_use_halves_in_an_hour() {
        let usage = vec![KeyUsage { key: "x".into(), machine_seconds: 100_000 }];
        let old = PoolQueue { decay_time: calendar::text(at(0)), usage };
        let left = |seconds| decayed(Some(&old), at(seconds)).1.values().next().copied().unwrap();
        assert_eq!(left(59), 100_000);
        assert!((49_900..50_100).contains(&left(3600)), "{}", left(3600));
        assert_eq!(left(1_000_000), 0);
        assert_eq!(decayed(Some(&old), at(125)).0, at(120), "the rest of a minute is not lost");
        assert_eq!(decayed(Some(&old), at(-5)).0, at(0), "a clock that is behind gives nothing");
    }

    proptest! {
        #[test]
        fn a_status_is_bounded_whatever_the_number_of_keys(
            keys in 0_usize..300, seconds in 1_i64..1000,
        ) {
            let mut ledger = Ledger::default();
            for n in 0..keys {
                let until = Some(seconds + i64::try_from(n).unwrap());
                ledger.note(&name(), &run(&n.to_string(), &format!("k{n}"), 0, until), &node());
            }
            let now = at(10_000);
            let charge = ledger.charge(&name(), &AgentVMPoolStatus::default(), &node(), now);
            prop_assert_eq!(charge.is_some(), keys > 0);
            if let Some(charge) = charge {
                let usage = &charge.queue.usage;
                prop_assert_eq!(usage.len(), keys.min(MAX_KEYS));
                let most = format!("k{}", keys - 1);
                prop_assert!(usage.iter().any(|it| it.key == most), "the largest ones stay");
                ledger.charged(&name(), charge.charged);
                prop_assert!(ledger.pools.is_empty());
            }
        }

        /// Charges in pieces, with restarts between them, are what the runs used: a second more
        /// for each piece at the most.
        #[test]
        fn pieces_add_up(cuts in proptest::collection::vec(1_i64..30, 1..10)) {
            let end: i64 = cuts.iter().sum();
            let mut status = AgentVMPoolStatus::default();
            let mut now = 0;
            for cut in &cuts {
                now += cut;
                let mut ledger = Ledger::default();
                let ended = (now == end).then_some(end);
                ledger.note(&name(), &run("a", "x", 0, ended), &node());
                if let Some(charge) = ledger.charge(&name(), &status, &node(), at(now)) {
                    status = written(&status, &charge);
                }
            }
            // Less than five minutes: a minute leaves 98.8 percent.
            let sum = used(&status)[0].1;
            let end = u64::try_from(end).unwrap();
            prop_assert!(sum <= end + 10 && sum + end / 20 + 10 >= end, "{sum} of {end}");
        }
    }
}
