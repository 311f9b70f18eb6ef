//! The cost of a long queue: all that happens to the runs of one pool, from the event of the watch
//! to the end of each run, without an API server and without machines.
//!
//! It prints the time of all runs and of one run, for lines of 1,000 to 100,000 runs that have one
//! key, 20 keys, or a key each:
//!
//! ```text
//! cargo run --release -p agentvm-bench --example long_queue
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for people who measure: it ends where something fails"
)]

use std::time::{Duration, Instant};

use agentvm_core::run::{PoolName, QueueEntry, RunQueues, Standing};
use agentvm_types::RunUid;
use jiff::Timestamp;

/// Machines of the pool that are idle at the same time.
const FREE: usize = 4;

fn entry(n: usize, keys: usize) -> QueueEntry {
    QueueEntry {
        uid: RunUid::new(format!("{n:08}")),
        priority: 0,
        key: (n % keys).to_string().into(),
        created: Timestamp::from_second(i64::try_from(n / 10).unwrap()).unwrap(),
    }
}

/// Each run joins, is looked at twice, gets a machine, and is over.
fn life(runs: usize, keys: usize) -> Duration {
    let entries: Vec<QueueEntry> = (0..runs).map(|n| entry(n, keys)).collect();
    let pool = PoolName::new("namespace", "pool");
    let mut queues = RunQueues::default();
    let began = Instant::now();
    for entry in &entries {
        let standing = Standing::InLine(entry.clone());
        queues.note(&entry.uid, entry.uid.as_str(), pool.clone(), standing);
        queues.line_mut(&pool).unwrap().position(entry);
    }
    for entry in &entries {
        queues.line_mut(&pool).unwrap().position(entry);
    }
    let mut used = 0;
    loop {
        let line = queues.line(&pool).unwrap();
        let next: Vec<RunUid> =
            line.first(FREE, |_| false).into_iter().map(|place| place.age.uid).collect();
        if next.is_empty() {
            return began.elapsed();
        }
        for uid in next {
            let entry = &entries[uid.as_str().parse::<usize>().unwrap()];
            let name = uid.as_str();
            let running = Standing::Running { key: entry.key.clone() };
            queues.note(&uid, name, pool.clone(), running);
            queues.note(&uid, name, pool.clone(), Standing::Over);
            used += 1;
            queues.set_usage(pool.clone(), [(&*entry.key, used)]);
        }
    }
}

fn main() {
    println!("{:>8} {:>8} {:>12} {:>12}", "runs", "keys", "all", "one run");
    for runs in [1_000, 10_000, 20_000, 100_000] {
        for keys in [1, 20, runs] {
            let all = life(runs, keys);
            let one = all / u32::try_from(runs).unwrap();
            println!("{runs:>8} {keys:>8} {all:>12.2?} {one:>12.2?}");
        }
    }
}
