//! The budget of one attempt for what a guest can repeat without end: broken sessions, and messages
//! that do not move the attempt. The host's clock fills it up again, and no message does.

use std::time::Duration;

use tokio::time::Instant;

/// The sessions that may break at once, and one more for each [`REFILL`].
const SESSIONS: u64 = 64;
const REFILL: Duration = Duration::from_mins(1);
/// The idle messages that may come at once, and as many more for each second. An agent sends STATUS
/// every five seconds, and answers each STOP and LEASE once.
const IDLE_MESSAGES: u64 = 256;
const IDLE_PER_SECOND: u64 = 8;
/// The pause before the second session, and the longest pause.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The part of its budget that a guest has used up in one attempt.
#[derive(Debug)]
pub struct Budget {
    begun: Instant,
    broken: u64,
    idle: u64,
}

impl Budget {
    pub fn since(begun: Instant) -> Self {
        Self { begun, broken: 0, idle: 0 }
    }

    /// Counts a session that broke; returns the number of all of them.
    pub fn session_broke(&mut self) -> u64 {
        self.broken += 1;
        self.broken
    }

    pub fn sessions_used_up(&self, now: Instant) -> bool {
        let minutes = self.age(now) / REFILL.as_secs();
        self.broken > SESSIONS.saturating_add(minutes)
    }

    /// Counts a message that brought no output and no result. `false`: there were too many.
    pub fn idle_message(&mut self, now: Instant) -> bool {
        self.idle += 1;
        self.idle <= IDLE_MESSAGES.saturating_add(self.age(now).saturating_mul(IDLE_PER_SECOND))
    }

    fn age(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begun).as_secs()
    }
}

/// The pause after so many broken sessions.
pub fn pause_after(broken: u64) -> Duration {
    let factor = u32::try_from(broken).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE)
}

/// Whether this broken session gets a line of the log: the first one, the second, the fourth, …
pub fn is_worth_a_line(broken: u64) -> bool {
    broken.is_power_of_two()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::clock::Clock;

    fn begun() -> Instant {
        Clock::manual(Timestamp::UNIX_EPOCH).instant()
    }

    #[test]
    fn a_guest_that_breaks_sessions_runs_out_of_them_and_fills_no_log() {
        let begun = begun();
        let (mut budget, mut lines, mut time) = (Budget::since(begun), 0, Duration::ZERO);
        while !budget.sessions_used_up(begun + time) {
            let broken = budget.session_broke();
            lines += u32::from(is_worth_a_line(broken));
            time += pause_after(broken);
        }
        assert!(lines <= 8 && time < Duration::from_mins(10), "{lines} lines in {time:?}");
    }

    #[test]
    fn a_session_may_break_every_other_minute_for_a_week() {
        let begun = begun();
        let mut budget = Budget::since(begun);
        for minutes in (0..7 * 24 * 60).step_by(2) {
            budget.session_broke();
            assert!(!budget.sessions_used_up(begun + Duration::from_mins(minutes)));
        }
    }

    #[test]
    fn an_agent_that_only_says_that_it_lives_is_heard_and_a_flood_is_not() {
        let begun = begun();
        let mut honest = Budget::since(begun);
        assert!((0..100_000).all(|n| honest.idle_message(begun + Duration::from_secs(5 * n))));
        let mut flood = Budget::since(begun);
        let taken = (0..100_000).take_while(|_| flood.idle_message(begun)).count();
        assert_eq!(taken as u64, IDLE_MESSAGES);
    }
}
