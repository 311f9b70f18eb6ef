//! The laws of a line, against a plain sort of everything.

use std::collections::{BTreeMap, BTreeSet};

use agentvm_types::RunUid;
use jiff::Timestamp;
use proptest::prelude::*;

use super::{Line, QueueEntry, ROUND_SECONDS};

/// An event of a pool.
#[derive(Clone, Debug)]
enum Event {
    Join {
        key: u8,
        priority: i32,
        second: i64,
    },
    /// The first in line gets a machine.
    Start,
    /// A run with a machine ends, after so many seconds.
    End {
        which: usize,
        seconds: u64,
    },
    /// A user deletes a run that waits.
    Delete {
        which: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (0_u8..4, -1_i32..2, 0_i64..6)
            .prop_map(|(key, priority, second)| Event::Join { key, priority, second }),
        3 => Just(Event::Start),
        2 => (any::<usize>(), 0_u64..60)
            .prop_map(|(which, seconds)| Event::End { which, seconds }),
        2 => any::<usize>().prop_map(|which| Event::Delete { which }),
    ]
}

fn entry(n: usize, key: u8, priority: i32, second: i64) -> QueueEntry {
    QueueEntry {
        uid: RunUid::new(format!("{n:05}")),
        priority,
        key: key.to_string().into(),
        created: Timestamp::from_second(second).unwrap(),
    }
}

/// Equal to a line, without an index: sorts everything for each question.
#[derive(Default)]
struct Plain {
    waiting: Vec<QueueEntry>,
    running: Vec<QueueEntry>,
    usage: BTreeMap<String, u64>,
}

impl Plain {
    fn order(&self) -> Vec<RunUid> {
        let round = |entry: &QueueEntry| {
            let running = self.running.iter().filter(|other| other.key == entry.key).count();
            let older = self.waiting.iter().filter(|other| {
                (other.priority, &other.key) == (entry.priority, &entry.key)
                    && (other.created, &other.uid) < (entry.created, &entry.uid)
            });
            let used = self.usage.get(&*entry.key).copied().unwrap_or(0);
            used / ROUND_SECONDS + (running + older.count()) as u64
        };
        let mut all: Vec<_> = self
            .waiting
            .iter()
            .map(|e| (-e.priority, round(e), e.created, e.uid.clone()))
            .collect();
        all.sort();
        all.into_iter().map(|(.., uid)| uid).collect()
    }
}

/// A line and its plain double.
#[derive(Default)]
struct Both {
    line: Line,
    plain: Plain,
    joined: usize,
}

impl Both {
    fn on(&mut self, event: &Event) {
        match event {
            Event::Join { key, priority, second } => {
                let entry = entry(self.joined, *key, *priority, *second);
                self.joined += 1;
                self.line.join(entry.clone());
                self.plain.waiting.push(entry);
            }
            Event::Start => {
                let Some(first) = self.plain.order().first().cloned() else { return };
                let at = self.plain.waiting.iter().position(|e| e.uid == first).unwrap();
                let entry = self.plain.waiting.remove(at);
                self.line.leave(&entry.uid);
                self.line.start(&entry.key);
                self.plain.running.push(entry);
            }
            Event::End { which, seconds } => {
                if self.plain.running.is_empty() {
                    return;
                }
                let entry = self.plain.running.remove(which % self.plain.running.len());
                self.line.stop(&entry.key);
                *self.plain.usage.entry(entry.key.to_string()).or_default() += seconds;
                let usage = &self.plain.usage;
                self.line.set_usage(usage.iter().map(|(key, used)| (key.as_str(), *used)));
            }
            Event::Delete { which } => {
                if self.plain.waiting.is_empty() {
                    return;
                }
                let entry = self.plain.waiting.remove(which % self.plain.waiting.len());
                self.line.leave(&entry.uid);
            }
        }
    }
}

proptest! {
    #[test]
    fn the_index_finds_the_order_of_a_plain_sort(
        events in proptest::collection::vec(event(), 1..60),
        free in 0_usize..6,
        busy in proptest::collection::btree_set(0_usize..60, 0..4),
    ) {
        let mut both = Both::default();
        for event in &events {
            both.on(event);
        }
        let order = both.plain.order();
        let busy: BTreeSet<RunUid> =
            busy.into_iter().map(|n| RunUid::new(format!("{n:05}"))).collect();
        let skip = |uid: &RunUid| busy.contains(uid);
        let first: Vec<RunUid> =
            both.line.first(free, skip).into_iter().map(|place| place.age.uid).collect();
        let expected: Vec<RunUid> =
            order.iter().filter(|uid| !busy.contains(*uid)).take(free).cloned().collect();
        prop_assert_eq!(first, expected);
        prop_assert_eq!(both.line.len(), order.len());
        for entry in both.plain.waiting.clone() {
            let place = order.iter().position(|uid| *uid == entry.uid).unwrap();
            prop_assert_eq!(both.line.position(&entry), u32::try_from(place).unwrap());
            let ahead = order[..place].iter().filter(|uid| !busy.contains(*uid)).count();
            let within = (ahead < free).then(|| u32::try_from(ahead).unwrap());
            prop_assert_eq!(both.line.ahead_within(&entry, free, skip), within);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn each_node_finds_the_same_order_whatever_the_order_of_its_events(
        events in proptest::collection::vec(event(), 1..60),
        seed in any::<u64>(),
    ) {
        let mut both = Both::default();
        for event in &events {
            both.on(event);
        }
        // Another node starts now, and hears of all that is there in another order.
        let mut other = Line::default();
        let mut all: Vec<(bool, QueueEntry)> = both.plain.waiting.iter().map(|e| (true, e.clone()))
            .chain(both.plain.running.iter().map(|e| (false, e.clone()))).collect();
        all.sort_by_key(|(_, entry)| {
            entry.uid.as_str().parse::<u64>().unwrap().wrapping_mul(seed | 1)
        });
        for (waits, entry) in all {
            if waits { other.join(entry) } else { other.start(&entry.key) }
        }
        other.set_usage(both.plain.usage.iter().map(|(key, used)| (key.as_str(), *used)));
        let uids = |line: &Line| -> Vec<RunUid> {
            line.first(100, |_| false).into_iter().map(|place| place.age.uid).collect()
        };
        prop_assert_eq!(uids(&both.line), uids(&other));
        prop_assert_eq!(uids(&other), both.plain.order());
    }

    /// Any run that waits with the highest priority gets a machine, although others submit for
    /// ever, delete their runs, and use as little as they like.
    #[test]
    fn a_run_is_never_starved_by_the_runs_of_others(
        used in 0_u64..2000,
        seconds in 0_u64..30,
        crowd in 1_usize..30,
        delete in any::<bool>(),
    ) {
        let mut both = Both::default();
        both.plain.usage.insert("1".to_owned(), used);
        both.line.set_usage([("1", used)]);
        both.on(&Event::Join { key: 1, priority: 0, second: 100 });
        let mine = both.plain.waiting[0].uid.clone();
        // A run is charged a second at the least.
        let seconds = seconds.max(1);
        let mut starts = 0_u64;
        while both.plain.waiting.iter().any(|entry| entry.uid == mine) {
            while both.plain.waiting.len() <= crowd {
                both.on(&Event::Join { key: 0, priority: 0, second: 0 });
            }
            if delete {
                let which = both.plain.waiting.iter().position(|e| e.uid != mine).unwrap();
                both.on(&Event::Delete { which });
            }
            both.on(&Event::Start);
            both.on(&Event::End { which: 0, seconds });
            starts += 1;
            prop_assert!(starts <= used / seconds + ROUND_SECONDS + 1, "{starts} before mine");
        }
    }
}

#[test]
fn ten_thousand_runs_of_one_key_do_not_hold_up_one_of_another() {
    let mut line = Line::default();
    for n in 0..10_000 {
        line.join(entry(n, 0, 0, 0));
    }
    line.start(&"0".into());
    let one = entry(10_000, 1, 0, 99);
    line.join(one.clone());
    assert_eq!(line.ahead_within(&one, 1, |_| false), Some(0));
    assert_eq!(line.first(1, |_| false)[0].age.uid, one.uid);
    let second = entry(10_001, 1, 0, 100);
    line.join(second.clone());
    assert_eq!(line.ahead_within(&second, 4, |_| false), Some(2), "the keys take turns");
    let urgent = entry(10_002, 0, 1, 101);
    line.join(urgent.clone());
    assert_eq!(line.ahead_within(&urgent, 1, |_| false), Some(0), "priority goes first");
    assert_eq!(line.ahead_within(&one, 1, |_| false), None);
}
