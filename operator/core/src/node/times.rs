//! The times of a node Lease, and their relation.
//!
//! ```text
//! 0       1/6     1/3            2/3        5/6        5/4      of the Lease's duration,
//! ├───────┼───────┼──────────────┼──────────┼──────────┤        since the last renewal
//! renewed renew   claim nothing  stop every kill       others may
//!                                attempt    the rest   end its attempts
//! ```
//!
//! The holder counts from the moment at which it *sent* its last successful renewal, and another
//! node from the moment at which it *saw* it. The holder looks at its standing every 1/30. So it
//! begins to kill at least 23/60 of the duration (23 s of 60) before another node may run an
//! attempt again.

use std::time::Duration;

/// The duration of a Lease, and all that follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    pub duration: Duration,
}

/// The things that a holder may do, by the age of its last renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Held,
    /// Claims nothing: a new attempt might not end in time.
    Doubtful,
    /// Stops its attempts.
    Lost,
    /// Kills the machines of attempts that have not stopped.
    Over,
}

impl LeaseTimes {
    /// For an API server that other nodes use too. An operator that is restarted by a back-off of
    /// less than a minute keeps its attempts.
    pub const SHARED: Self = Self { duration: Duration::from_mins(1) };
    /// For the API server of this host itself: when it does not answer, there is nobody to whom the
    /// attempts could go.
    pub const ALONE: Self = Self { duration: Duration::from_hours(1) };

    /// A Lease in the API has whole seconds.
    pub fn seconds(self) -> i32 {
        i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX).max(1)
    }

    pub fn renew_every(self) -> Duration {
        (self.duration / 6).min(Duration::from_secs(10))
    }

    /// The time between two looks of a holder at its own standing.
    pub fn look_every(self) -> Duration {
        self.duration / 30
    }

    /// The time that a renewal may take.
    pub fn patience(self) -> Duration {
        self.duration / 12
    }

    /// The standing of a holder whose last renewal is this old.
    pub fn standing(self, age: Duration) -> Standing {
        if age >= self.duration / 6 * 5 {
            Standing::Over
        } else if age >= self.duration / 3 * 2 {
            Standing::Lost
        } else if age >= self.duration / 3 {
            Standing::Doubtful
        } else {
            Standing::Held
        }
    }

    /// From here on another node may say that the holder is gone.
    pub fn over_after(self) -> Duration {
        self.duration / 4 * 5
    }

    /// From here on nobody asks for the Lease any more, and it may be deleted.
    pub fn forgotten_after(self) -> Duration {
        self.duration * 20
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Killing a machine may take a third of the time that is left then.
        #[test]
        fn a_holder_has_killed_everything_before_another_node_may_run_it_again(
            seconds in 1_u64..100_000,
        ) {
            let times = LeaseTimes { duration: Duration::from_secs(seconds) };
            let begins = times.duration / 6 * 5 + times.look_every();
            let left = times.over_after().checked_sub(begins).unwrap_or_default();
            prop_assert!(left + Duration::from_micros(1) >= times.duration * 23 / 60, "{times:?}");
            prop_assert_eq!(times.standing(times.duration / 6 * 5), Standing::Over);
        }

        #[test]
        fn the_standing_only_falls_with_the_age(a in 0_u64..200, b in 0_u64..200) {
            let standing = |age| LeaseTimes::SHARED.standing(Duration::from_secs(age));
            prop_assert!(standing(a.min(b)) <= standing(a.max(b)));
        }
    }

    #[test]
    fn one_lost_renewal_costs_nothing() {
        let times = LeaseTimes::SHARED;
        let age = times.renew_every() + times.patience();
        assert_eq!(times.standing(age), Standing::Held);
        assert_eq!((times.seconds(), times.renew_every()), (60, Duration::from_secs(10)));
    }
}
