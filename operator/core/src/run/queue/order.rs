//! The order of a line: by priority, then by the fair share of the keys, then by age, then by UID
//! so that two runs never tie.
//!
//! Shares are counted in rounds. A key begins in the round that follows from its usage: one round
//! for each [`ROUND_SECONDS`] machine-seconds, and one for each run that has a machine. This one is
//! the entry penalty: many runs that start at the same time are charged before the first of them
//! ends. The waiting runs of a key take one round each, the oldest one first. So each key has one
//! run in each round, and 10,000 runs of one key do not hold up the first run of another key. When
//! a run gets its machine, the rounds of the others stay as they are.

use std::{cmp::Ordering, sync::Arc};

use agentvm_types::RunUid;
use jiff::Timestamp;

/// The machine-seconds of a round, and so the penalty for a run that has a machine.
pub const ROUND_SECONDS: u64 = 10;

/// A run that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    pub uid: RunUid,
    pub priority: i32,
    /// The key whose share the run uses; empty for runs without one.
    pub key: Arc<str>,
    pub created: Timestamp,
}

/// The age of a run within its key.
#[derive(Clone, Debug)]
pub struct Age {
    pub created: Timestamp,
    pub uid: RunUid,
}

/// A run's place in line. The smaller one is first.
#[derive(Clone, Debug)]
pub struct Place {
    pub priority: i32,
    pub round: u64,
    pub age: Age,
}

impl Age {
    pub fn of(entry: &QueueEntry) -> Self {
        Self { created: entry.created, uid: entry.uid.clone() }
    }
}

impl Ord for Age {
    fn cmp(&self, other: &Self) -> Ordering {
        #[cfg(test)]
        steps::count();
        (self.created, &self.uid).cmp(&(other.created, &other.uid))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        let (priority, round) = (other.priority.cmp(&self.priority), self.round.cmp(&other.round));
        priority.then(round).then_with(|| self.age.cmp(&other.age))
    }
}

macro_rules! total_order {
    ($($type:ty),*) => {$(
        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other) == Ordering::Equal
            }
        }
        impl Eq for $type {}
    )*};
}

total_order!(Age, Place);

/// Counts comparisons: the cost of the queue in steps instead of time.
#[cfg(test)]
pub mod steps {
    use std::cell::Cell;

    thread_local!(static STEPS: Cell<u64> = const { Cell::new(0) });

    pub fn count() {
        STEPS.set(STEPS.get() + 1);
    }

    pub fn take() -> u64 {
        STEPS.replace(0)
    }
}
