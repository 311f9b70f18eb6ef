//! The host's time, read off the share.
//!
//! EXECUTE carries its sending time. On a busy host the message may wait for a tenth of a second
//! until an emulated CPU reads it, and the guest cannot measure that delay. But a file that is
//! touched on the share gets the host's time at that moment, and that moment lies between two looks
//! at the guest's clock.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// A smaller difference is not worth a step: file times are those of the host's last tick.
const GOOD: i128 = 10_000_000;
/// Looks that are further apart than this say too little.
const NARROW: i128 = 15_000_000;
const TRIES: usize = 3;

/// Sets the clock by a folder of the host's.
pub fn follow(folder: &Path) -> io::Result<()> {
    let mut best: Option<Sighting> = None;
    for _ in 0..TRIES {
        let seen = Sighting::of(folder)?;
        if best.is_none_or(|best| seen.width() < best.width()) {
            best = Some(seen);
        }
        if seen.width() < NARROW {
            break;
        }
    }
    match best.map_or(0, Sighting::correction) {
        0 => Ok(()),
        by => Ok(clock_settime(ClockId::Realtime, timespec(now() + by))?),
    }
}

/// The host's time, between two of ours; nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    before: i128,
    host: i128,
    after: i128,
}

impl Sighting {
    fn of(folder: &Path) -> io::Result<Self> {
        let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
        let touch =
            Timestamps { last_access: time(UTIME_OMIT), last_modification: time(UTIME_NOW) };
        let before = now();
        rustix::fs::utimensat(CWD, folder, &touch, AtFlags::empty())?;
        let after = now();
        let stat = rustix::fs::stat(folder)?;
        let host = nanos(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0));
        Ok(Self { before, host, after })
    }

    fn width(self) -> i128 {
        self.after - self.before
    }

    /// The correction of our clock: none if it may be right.
    fn correction(self) -> i128 {
        if (self.before - GOOD..=self.after + GOOD).contains(&self.host) {
            return 0;
        }
        self.host - i128::midpoint(self.before, self.after)
    }
}

fn now() -> i128 {
    let time = clock_gettime(ClockId::Realtime);
    nanos(time.tv_sec, time.tv_nsec)
}

fn nanos(seconds: i64, nanos: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
}

/// The time in the form of the kernel, which refuses a time that it cannot have.
fn timespec(nanos: i128) -> Timespec {
    let part = |value: i128| i64::try_from(value).unwrap_or(-1);
    Timespec {
        tv_sec: part(nanos.div_euclid(1_000_000_000)),
        tv_nsec: part(nanos.rem_euclid(1_000_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i128 = 1_000_000;

    #[test]
    fn a_clock_that_may_be_right_is_left_alone() {
        for host in [1000, 1010, 1006, 991, 1019] {
            let seen = Sighting { before: 1000 * MS, host: host * MS, after: 1010 * MS };
            assert_eq!(seen.correction(), 0, "{host}");
        }
    }

    #[test]
    fn one_that_is_wrong_is_set_to_the_middle() {
        let late = Sighting { before: 1000 * MS, host: 1100 * MS, after: 1010 * MS };
        assert_eq!(late.correction(), 95 * MS);
        let early = Sighting { before: 1000 * MS, host: 900 * MS, after: 1010 * MS };
        assert_eq!(early.correction(), -105 * MS);
    }

    #[test]
    fn the_time_of_a_folder_is_ours_where_both_have_one_clock() {
        let dir = tempfile::tempdir().unwrap();
        let off = Sighting::of(dir.path()).unwrap().correction();
        assert!(off.abs() < 1000 * MS, "{off}");
        let time = timespec(1_700_000_000_123_456_789);
        assert_eq!((time.tv_sec, time.tv_nsec), (1_700_000_000, 123_456_789));
    }
}
