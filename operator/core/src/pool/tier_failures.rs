//! Decides when a tier that fails again and again is not used for a while.

use std::time::Duration;

use jiff::Timestamp;

/// The number of failures in a row after which a tier is given up for a while. One failure may be
/// bad luck (a device that was busy in an unusual moment) and costs one fresh process. Three in a
/// row with no success between come from the host, the build or the golden, and each of them keeps
/// a machine in quarantine and a slot from its pool.
const GIVE_UP_AFTER: u32 = 3;
/// The time for which a tier is given up. It is so long that the next try costs nothing that anyone
/// notices, and so short that nobody has to restart the operator after a repair of the host.
const GIVE_UP_FOR: Duration = Duration::from_mins(10);

/// The latest results of one tier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    failures: u32,
    last: String,
    given_up: Option<Timestamp>,
}

impl Streak {
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Notes a failure. After its time a tier that was given up is tried again; then one more
    /// failure is enough to give it up.
    pub fn failed(&mut self, why: String, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.last = why;
        if self.failures >= GIVE_UP_AFTER {
            self.given_up = now.checked_add(GIVE_UP_FOR).ok();
        }
    }

    /// Why this tier is not used now.
    pub fn given_up(&self, now: Timestamp) -> Option<String> {
        self.given_up.filter(|until| now < *until)?;
        Some(format!("failed {} times in a row, at last: {}", self.failures, self.last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_way_is_given_up_after_three_failures_in_a_row_and_tried_again(
            outcomes in proptest::collection::vec(any::<bool>(), 0..40),
        ) {
            let (mut streak, mut failures, start) = (Streak::default(), 0, Timestamp::UNIX_EPOCH);
            for good in outcomes {
                if good {
                    streak.succeeded();
                    failures = 0;
                } else {
                    streak.failed("no".to_owned(), start);
                    failures += 1;
                }
                prop_assert_eq!(streak.given_up(start).is_some(), failures >= GIVE_UP_AFTER);
            }
            prop_assert_eq!(streak.given_up(start.checked_add(GIVE_UP_FOR).unwrap()), None);
        }
    }

    #[test]
    fn after_its_time_one_more_failure_is_enough() {
        let mut streak = Streak::default();
        for _ in 0..3 {
            streak.failed("3 pages".to_owned(), Timestamp::UNIX_EPOCH);
        }
        assert!(streak.given_up(Timestamp::UNIX_EPOCH).unwrap().contains("3 pages"));
        let later = Timestamp::UNIX_EPOCH.checked_add(GIVE_UP_FOR).unwrap();
        assert_eq!(streak.given_up(later), None);
        streak.failed("again".to_owned(), later);
        assert!(streak.given_up(later).unwrap().ends_with("again"));
    }
}
