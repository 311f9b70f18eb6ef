//! The clock: the only place of the operator that reads the time.
//!
//! Machines, goldens, controllers and the sessions with agents take a [`Clock`], so that a test
//! decides what time it is. The start of the process and of its daemons uses the host's clock.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

/// Tells the time of day and the time that has passed.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<Mutex<Reading>>),
}

/// Both times of a manual clock. They advance together.
#[derive(Clone, Copy, Debug)]
struct Reading {
    now: Timestamp,
    instant: Instant,
    uptime: Duration,
}

/// The clock of this host.
impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Clock {
    /// The clock of this host.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `now`. All of its clones advance together.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn manual(now: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(Mutex::new(Reading {
            now,
            instant: Instant::now(),
            uptime: Duration::ZERO,
        }))))
    }

    /// The time of day. It may jump when the host's clock is set.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Manual(reading) => read(reading).now,
        }
    }

    /// The monotonic time, to measure durations with. A paused tokio runtime pauses it too.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn instant(&self) -> Instant {
        match &self.0 {
            Source::System => Instant::now(),
            Source::Manual(reading) => read(reading).instant,
        }
    }

    /// The time since the boot of the host. Unlike [`Self::instant`], it goes on while the host
    /// sleeps: what others wait for does not sleep either.
    pub fn uptime(&self) -> Duration {
        match &self.0 {
            Source::System => {
                let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                Duration::try_from(time).unwrap_or_default()
            }
            Source::Manual(reading) => read(reading).uptime,
        }
    }

    /// The time from now until `at`; zero when `at` has passed.
    pub fn until(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.now())).unwrap_or_default()
    }

    /// Advances a manual clock. The clock of the host advances by itself, so this does nothing to
    /// it.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(reading) = &self.0 {
            let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
            reading.now = reading.now.saturating_add(by).unwrap_or(Timestamp::MAX);
            reading.instant += by;
            reading.uptime += by;
        }
    }
}

fn read(reading: &Mutex<Reading>) -> Reading {
    *reading.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_it_is_advanced_and_its_clones_move_too() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let (other, begin) = (clock.clone(), clock.instant());
        assert_eq!((clock.now(), clock.instant()), (Timestamp::UNIX_EPOCH, begin));
        clock.advance(Duration::from_secs(5));
        assert_eq!(other.now(), Timestamp::from_second(5).unwrap());
        assert_eq!(other.instant() - begin, Duration::from_secs(5));
        assert_eq!(clock.until(Timestamp::from_second(7).unwrap()), Duration::from_secs(2));
        assert_eq!(clock.until(Timestamp::UNIX_EPOCH), Duration::ZERO);
    }
}
