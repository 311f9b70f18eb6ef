//! Whether a machine whose run is over is brought back in place or replaced, and when a way back that fails again and again
//! is left alone for a while.

use std::time::Duration;

use agentvm_crds::ReusePolicy;
use jiff::Timestamp;

/// All that decides about one machine.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts; any of them is enough for a no"
)]
pub struct Used {
    pub policy: ReusePolicy,
    pub max_reuses: u32,
    /// How often this process was brought back already.
    pub reuses: u32,
    /// What it was made of is what the pool's next machine would be made of.
    pub golden_wanted: bool,
    /// The pool is there, has the slot, and the operator isn't about to stop.
    pub slot_wanted: bool,
    /// The attempt ended by itself and was seen to end: nothing had to be ended by force, QEMU lives.
    pub intact: bool,
    /// Resets in place have passed their self-test here and haven't fallen from favour since.
    pub in_place: bool,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    InPlace,
    /// Destroyed; the pool makes another one if it wants one.
    Replace {
        why: &'static str,
    },
}

/// Decides; never acts. The same pool means the same namespace: a machine never changes its slot.
pub fn way(used: &Used) -> Way {
    let why = match used {
        Used { policy: ReusePolicy::Never, .. } => "reusePolicy is Never",
        Used { slot_wanted: false, .. } => "its slot is not wanted any more",
        Used { golden_wanted: false, .. } => "its golden is not the pool's any more",
        Used { intact: false, .. } => "its attempt did not end by itself",
        Used { in_place: false, .. } => "resets in place are not in use here",
        Used { reuses, max_reuses, .. } if reuses >= max_reuses => {
            "it was brought back maxReuses times"
        }
        Used { policy: ReusePolicy::VerifiedReset, .. } => return Way::InPlace,
    };
    Way::Replace { why }
}

/// Failures in a row after which a way is given up for a while. One may be bad luck (a device that was busy in an unusual
/// moment) and costs one fresh process; three in a row with nothing good between are the host, the build or the golden, and
/// each of them keeps a machine in quarantine and a slot from its pool.
const GIVE_UP_AFTER: u32 = 3;
/// How long: long enough that trying again costs nothing that anyone notices, short enough that nobody has to restart an
/// operator after mending its host.
const GIVE_UP_FOR: Duration = Duration::from_mins(10);

/// How one way back went lately.
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

    /// When its time is over it is tried again, and one more failure is enough.
    pub fn failed(&mut self, why: String, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.last = why;
        if self.failures >= GIVE_UP_AFTER {
            self.given_up = now.checked_add(GIVE_UP_FOR).ok();
        }
    }

    /// Why this way isn't taken now.
    pub fn given_up(&self, now: Timestamp) -> Option<String> {
        self.given_up.filter(|until| now < *until)?;
        Some(format!("failed {} times in a row, at last: {}", self.failures, self.last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn used() -> impl Strategy<Value = Used> {
        let policy = prop_oneof![Just(ReusePolicy::Never), Just(ReusePolicy::VerifiedReset)];
        (policy, 0_u32..4, 0_u32..4, any::<[bool; 4]>()).prop_map(
            |(policy, max_reuses, reuses, flags)| {
                let [golden_wanted, slot_wanted, intact, in_place] = flags;
                Used { policy, max_reuses, reuses, golden_wanted, slot_wanted, intact, in_place }
            },
        )
    }

    proptest! {
        #[test]
        fn in_place_only_when_everything_is_in_favour_of_it(used in used()) {
            let Used { policy, max_reuses, reuses, golden_wanted, slot_wanted, intact, in_place } = used;
            let all = golden_wanted && slot_wanted && intact && in_place;
            let wanted = all && policy == ReusePolicy::VerifiedReset && reuses < max_reuses;
            prop_assert_eq!(way(&used) == Way::InPlace, wanted);
        }

        #[test]
        fn a_process_serves_at_most_one_run_more_than_max_reuses(max_reuses in 0_u32..200) {
            let mut used = Used {
                policy: ReusePolicy::VerifiedReset, max_reuses, reuses: 0,
                golden_wanted: true, slot_wanted: true, intact: true, in_place: true,
            };
            let mut runs = 1;
            while way(&used) == Way::InPlace {
                used.reuses += 1;
                runs += 1;
            }
            prop_assert_eq!(runs, max_reuses + 1);
        }

        #[test]
        fn a_way_is_given_up_after_three_failures_in_a_row_and_tried_again(outcomes in proptest::collection::vec(any::<bool>(), 0..40)) {
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
