//! The time limits of an attempt, besides the timeout of its run.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Clock;

/// From SIGTERM to SIGKILL in the guest.
pub const GRACE: Duration = Duration::from_secs(5);
/// A whole attempt has this on top of its run's timeout, from the durable claim on: for the start
/// before the timeout begins, and for SIGTERM, SIGKILL and the rest of the output after it.
const WHOLE: Duration = Duration::from_mins(1);
/// A restarted operator has at least this time to fetch what an attempt left meanwhile.
const AFTER_RESTART: Duration = Duration::from_mins(1);
/// An agent that was told to stop an attempt gets this on top of the grace before the host ends the
/// machine itself.
pub const SLACK: Duration = Duration::from_secs(30);
/// A machine that was running counts as lost when it was silent for so long.
pub const LOST_AFTER: Duration = Duration::from_mins(1);
/// The length of one try to reach the agent.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// A session that was kept open counts as broken when it was silent about EXECUTE for so long. A
/// new session tells more.
pub const KEPT_PATIENCE: Duration = Duration::from_secs(5);
/// From SIGTERM to SIGKILL when the operator has to stop: its own time is short.
pub const EVICTED: Duration = Duration::from_secs(3);
/// A DHCP server has this time for a machine whose lease expired while it was parked. A run waits
/// for it.
pub const LEASE: Duration = Duration::from_secs(10);

/// The time that an attempt has from now on: the host's own deadline. The claim's time is in the
/// run's status, so a restart of the operator does not begin it anew, and nothing that a guest
/// sends can move it.
pub fn time_left(claimed: Timestamp, timeout: Duration, clock: &Clock) -> Duration {
    let whole = timeout.saturating_add(WHOLE);
    // A clock that was set back does not make the attempt longer.
    let passed = Duration::try_from(clock.now().duration_since(claimed)).unwrap_or_default();
    whole.saturating_sub(passed).max(AFTER_RESTART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_begins_with_the_claim_and_not_with_a_restart_or_a_clock_that_was_set() {
        let claimed = Timestamp::from_second(1_000_000).unwrap();
        let left = |seconds: i64| {
            let now = Timestamp::from_second(1_000_000 + seconds).unwrap();
            time_left(claimed, Duration::from_mins(5), &Clock::manual(now)).as_secs()
        };
        assert_eq!(left(0), 360);
        assert_eq!(left(200), 160, "after a restart");
        assert_eq!(left(100_000), 60, "its result is still fetched");
        assert_eq!(left(-100_000), 360, "the clock was set back");
    }
}
