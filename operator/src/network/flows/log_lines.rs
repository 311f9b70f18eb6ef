//! The budget of log lines about flows that belong to no run: nothing else bounds them.

use std::time::{Duration, Instant};

/// The lines that may be written at a time.
const BURST: u32 = 20;
/// Then no more until so much later.
const PAUSE: Duration = Duration::from_secs(10);

/// The lines written since the last pause, and the number of lines that were left out.
#[derive(Debug, Default)]
pub struct LogLines {
    since: Option<Instant>,
    written: u32,
    dropped: u64,
}

impl LogLines {
    /// May one more line be written? `Some` has the number of lines that were left out since the
    /// last one.
    pub fn may_write(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= PAUSE) {
            (self.since, self.written) = (Some(now), 0);
        }
        if self.written >= BURST {
            self.dropped = self.dropped.saturating_add(1);
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_burst_is_written_and_the_rest_counted() {
        let (mut lines, start) = (LogLines::default(), Clock::system().instant().into_std());
        let written = (0..100).filter(|_| lines.may_write(start) == Some(0)).count();
        assert_eq!(written, 20);
        assert_eq!(lines.may_write(start + PAUSE), Some(80));
        assert_eq!(lines.may_write(start + PAUSE), Some(0));
    }
}
