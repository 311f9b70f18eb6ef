//! The time of the last write of each object's status, for writes that are not urgent: core decides
//! from it whether the next one waits.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::clock::Clock;

/// Times of writes, by the UID of the object.
#[derive(Debug)]
pub struct WriteTimes {
    clock: Clock,
    times: Mutex<HashMap<String, Instant>>,
}

impl WriteTimes {
    pub fn new(clock: Clock) -> Self {
        Self { clock, times: Mutex::default() }
    }

    /// The time since the last write; `None` where none is known.
    pub fn since(&self, uid: &str) -> Option<Duration> {
        self.times().get(uid).map(|at| self.clock.instant() - *at)
    }

    /// The status of this object is written now.
    pub fn note(&self, uid: &str) {
        let now = self.clock.instant();
        self.times().insert(uid.to_owned(), now);
    }

    /// Forgets objects that are gone.
    pub fn keep(&self, exists: impl Fn(&str) -> bool) {
        self.times().retain(|uid, _| exists(uid));
    }

    fn times(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn the_time_since_a_write_follows_the_clock() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let writes = WriteTimes::new(clock.clone());
        assert_eq!(writes.since("a"), None);
        writes.note("a");
        clock.advance(Duration::from_secs(7));
        assert_eq!((writes.since("a"), writes.since("b")), (Some(Duration::from_secs(7)), None));
        writes.keep(|_| false);
        assert_eq!(writes.since("a"), None);
    }
}
