//! Whose turn it is: by priority, then by creation, then by UID so that two never tie.

use jiff::Timestamp;

/// A run that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    pub uid: String,
    pub priority: i32,
    pub created: Timestamp,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Runs of the same pool before this one.
    pub ahead: u32,
    /// Runs of the same pool that wait, this one included.
    pub waiting: u32,
}

/// The place of `this` among all that wait for the same pool (it may be among `others` or not).
pub fn place<'a>(this: &QueueEntry, others: impl IntoIterator<Item = &'a QueueEntry>) -> Place {
    let mut place = Place { ahead: 0, waiting: 1 };
    for other in others.into_iter().filter(|o| o.uid != this.uid) {
        place.waiting = place.waiting.saturating_add(1);
        if before(other, this) {
            place.ahead = place.ahead.saturating_add(1);
        }
    }
    place
}

fn before(a: &QueueEntry, b: &QueueEntry) -> bool {
    (std::cmp::Reverse(a.priority), a.created, &a.uid)
        < (std::cmp::Reverse(b.priority), b.created, &b.uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_are_a_permutation_and_priority_comes_first(raw in proptest::collection::vec((-3_i32..3, 0_i64..5), 1..20)) {
            let all: Vec<QueueEntry> = raw.iter().enumerate().map(|(n, (priority, second))| QueueEntry {
                uid: n.to_string(), priority: *priority, created: Timestamp::from_second(*second).unwrap(),
            }).collect();
            let mut places: Vec<u32> = all.iter().map(|e| place(e, &all).ahead).collect();
            for (a, b) in all.iter().zip(&all[1..]) {
                if a.priority > b.priority { prop_assert!(place(a, &all).ahead < place(b, &all).ahead); }
            }
            places.sort_unstable();
            prop_assert_eq!(places, (0..u32::try_from(all.len()).unwrap()).collect::<Vec<_>>());
        }
    }
}
