//! Decides whether a machine is reset in place or replaced after its run, and when a tier that
//! fails again and again is not used for a while.

use std::time::Duration;

use agentvm_crds::ReusePolicy;
use jiff::Timestamp;

/// The facts that decide about a machine whose run is over.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts; any of them is enough for a no"
)]
pub struct UsedMachine {
    pub policy: ReusePolicy,
    pub max_reuses: u32,
    /// The number of resets of this process.
    pub reuses: u32,
    /// The pool's next machine would be made of the same golden, with the same attachment.
    pub golden_wanted: bool,
    /// The pool exists and has the slot, and the operator is not about to stop.
    pub slot_wanted: bool,
    /// The attempt ended by itself and was seen to end: nothing was ended by force, and QEMU lives.
    pub intact: bool,
    /// Resets in place have passed their self-test on this host and are not given up at the moment.
    pub in_place: bool,
}

/// The decision about a machine whose run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRun {
    /// The machine is reset in place.
    Reset,
    /// The machine is removed. The pool makes another one if it wants one.
    Replace { why: &'static str },
}

/// Decides; never acts. A machine never changes its slot, so its next run is in the same namespace.
pub fn after_run(used: &UsedMachine) -> AfterRun {
    let why = match used {
        UsedMachine { policy: ReusePolicy::Never, .. } => "reusePolicy is Never",
        UsedMachine { slot_wanted: false, .. } => "its slot is not wanted any more",
        UsedMachine { golden_wanted: false, .. } => "its golden is not the pool's any more",
        UsedMachine { intact: false, .. } => "its attempt did not end by itself",
        UsedMachine { in_place: false, .. } => "resets in place are not in use here",
        UsedMachine { reuses, max_reuses, .. } if reuses >= max_reuses => {
            "it was brought back maxReuses times"
        }
        UsedMachine { policy: ReusePolicy::VerifiedReset, .. } => return AfterRun::Reset,
    };
    AfterRun::Replace { why }
}

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

    fn used() -> impl Strategy<Value = UsedMachine> {
        let policy = prop_oneof![Just(ReusePolicy::Never), Just(ReusePolicy::VerifiedReset)];
        (policy, 0_u32..4, 0_u32..4, any::<[bool; 4]>()).prop_map(
            |(policy, max_reuses, reuses, flags)| {
                let [golden_wanted, slot_wanted, intact, in_place] = flags;
                UsedMachine {
                    policy,
                    max_reuses,
                    reuses,
                    golden_wanted,
                    slot_wanted,
                    intact,
                    in_place,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn in_place_only_when_everything_is_in_favour_of_it(used in used()) {
            let UsedMachine { policy, max_reuses, reuses, .. } = used;
            let all = used.golden_wanted && used.slot_wanted && used.intact && used.in_place;
            let wanted = all && policy == ReusePolicy::VerifiedReset && reuses < max_reuses;
            prop_assert_eq!(after_run(&used) == AfterRun::Reset, wanted);
        }

        #[test]
        fn a_process_serves_at_most_one_run_more_than_max_reuses(max_reuses in 0_u32..200) {
            let mut used = UsedMachine {
                policy: ReusePolicy::VerifiedReset, max_reuses, reuses: 0,
                golden_wanted: true, slot_wanted: true, intact: true, in_place: true,
            };
            let mut runs = 1;
            while after_run(&used) == AfterRun::Reset {
                used.reuses += 1;
                runs += 1;
            }
            prop_assert_eq!(runs, max_reuses + 1);
        }

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
