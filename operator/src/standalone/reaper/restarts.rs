//! The restarts of a daemon that died: after pauses that grow.

use std::time::Duration;

use agentvm_core::backoff::Backoff;

pub(super) const RESTART: Backoff =
    Backoff { first: Duration::from_millis(200), cap: Duration::from_secs(10) };
/// A daemon that ran this long is healthy: after its next death, the pause is short again.
const WELL_AFTER: Duration = Duration::from_secs(30);

/// The deaths of one daemon, one soon after the other.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    deaths: u32,
}

impl Restarts {
    /// The pause after a death, or after a start that failed. `ran` is the time that the daemon
    /// ran.
    pub fn pause(&mut self, ran: Duration, name: &str) -> Duration {
        if ran >= WELL_AFTER {
            self.deaths = 0;
        }
        self.deaths = self.deaths.saturating_add(1);
        RESTART.after(self.deaths, name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_grow_to_a_limit_and_are_short_after_a_good_run(
            deaths in 1_u32..50, name in "[a-z]{1,8}",
        ) {
            let mut restarts = Restarts::default();
            let pauses: Vec<_> =
                (0..deaths).map(|_| restarts.pause(Duration::ZERO, &name)).collect();
            prop_assert!(pauses.iter().all(|pause| *pause <= RESTART.cap * 12 / 10));
            prop_assert!(deaths < 12 || pauses.last() > pauses.first());
            prop_assert_eq!(restarts.pause(WELL_AFTER, &name), pauses[0]);
        }
    }
}
