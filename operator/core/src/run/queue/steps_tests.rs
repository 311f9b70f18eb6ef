//! The cost of a line in comparisons: ten times the runs cost at most eleven times as much, but for
//! the logarithm that sorting needs.

use agentvm_types::RunUid;
use jiff::Timestamp;

use super::order::steps;
use super::{Line, QueueEntry};

fn entry(n: usize, keys: usize) -> QueueEntry {
    QueueEntry {
        // The order of creation is not the order of the events.
        uid: RunUid::new(format!("{:08}", n.wrapping_mul(7_919) % 1_000_003)),
        priority: i32::try_from(n % 3).unwrap(),
        key: (n % keys).to_string().into(),
        created: Timestamp::from_second(i64::try_from(n / 10).unwrap()).unwrap(),
    }
}

/// All that happens to `runs` runs of a pool with four machines: each joins, is looked at three
/// times, gets a machine and leaves it; each third one is deleted instead.
fn life(runs: usize, keys: usize) -> u64 {
    steps::take();
    let mut line = Line::default();
    let entries: Vec<_> = (0..runs).map(|n| entry(n, keys)).collect();
    for entry in &entries {
        line.join(entry.clone());
        assert!(line.ahead_within(entry, 0, |_| false).is_none());
        line.position(entry);
    }
    for _ in 0..2 {
        for entry in &entries {
            line.position(entry);
        }
    }
    for entry in entries.iter().step_by(3) {
        line.leave(&entry.uid);
    }
    let mut seconds = 0;
    while !line.is_empty() {
        // A machine is idle again: the router wakes the first run, and the run looks.
        let first = line.first(1, |_| false).remove(0).age.uid;
        let entry = entries.iter().find(|entry| entry.uid == first).unwrap();
        assert_eq!(line.ahead_within(entry, 1, |_| false), Some(0));
        line.leave(&first);
        line.start(&entry.key);
        line.stop(&entry.key);
        seconds += 1;
        line.set_usage([(&*entry.key, seconds)]);
    }
    steps::take()
}

#[test]
fn ten_times_the_runs_cost_eleven_times_the_comparisons_at_most_and_a_logarithm() {
    for keys in [1, 7, usize::MAX] {
        let [small, large] = [400, 4000].map(|runs| life(runs, keys.min(runs)));
        // log2(4000) / log2(400) is 1.39: a line is a sorted index.
        let allowed = small * 11 * 139 / 100;
        assert!(large <= allowed, "{keys} keys: {small} comparisons, then {large}");
        // And each event alone costs a few times the logarithm.
        assert!(large / 4000 <= 12 * 12, "{keys} keys: {} a run", large / 4000);
    }
}
