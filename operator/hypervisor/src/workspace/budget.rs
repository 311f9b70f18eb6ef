//! The cost of work over files that a guest made: entries, bytes, descriptors and time.
//!
//! A guest decides how much there is to do. The budget decides how much is done. Entries and bytes
//! are facts about the guest's files. Time and a cancellation are facts about this host, so the
//! errors differ.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::HvError;

/// The largest depth that is entered. A walk holds one descriptor per level.
pub const MAX_DEPTH: usize = 64;
/// The collections of a node that run at the same time. Each holds `MAX_DEPTH` descriptors and a
/// few more.
pub const PARALLEL_COLLECTIONS: usize = 4;

/// The wish to end work early. All clones are one wish.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Cancels when it is dropped: a future that is dropped ends its thread's work, too.
#[derive(Debug)]
pub struct CancelOnDrop(pub Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The remaining budget of one piece of work.
#[derive(Debug)]
pub struct Budget {
    entries: usize,
    bytes: u64,
    began: Instant,
    time: Duration,
    cancel: Cancel,
    work: u64,
}

/// The part of a budget that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    Entries,
    Bytes,
    Time(Duration),
    Cancelled,
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Entries => f.write_str("there are too many entries"),
            Self::Bytes => f.write_str("there are too many bytes"),
            Self::Time(limit) => write!(f, "it took longer than {} s", limit.as_secs()),
            Self::Cancelled => f.write_str("it was cancelled"),
        }
    }
}

impl Budget {
    pub fn new(entries: usize, bytes: u64, time: Duration, cancel: Cancel) -> Self {
        Self { entries, bytes, began: Instant::now(), time, cancel, work: 0 }
    }

    /// A budget for removals and moves.
    pub fn of_entries(entries: usize, time: Duration) -> Self {
        Self::new(entries, 0, time, Cancel::default())
    }

    /// One entry is looked at, removed or moved.
    pub fn entry(&mut self) -> Result<(), Spent> {
        self.entries = self.entries.checked_sub(1).ok_or(Spent::Entries)?;
        self.work()
    }

    /// The entries that may still be looked at.
    pub fn entries_left(&self) -> usize {
        self.entries
    }

    /// Takes a file of this size.
    pub fn bytes(&mut self, size: u64) -> Result<(), Spent> {
        self.bytes = self.bytes.checked_sub(size).ok_or(Spent::Bytes)?;
        Ok(())
    }

    /// The bytes that may still be taken.
    pub fn bytes_left(&self) -> u64 {
        self.bytes
    }

    /// One step of work of bounded size: an entry, a folder entered, a piece of a file.
    pub fn work(&mut self) -> Result<(), Spent> {
        self.work += 1;
        if self.cancel.0.load(Ordering::Relaxed) {
            return Err(Spent::Cancelled);
        }
        if self.began.elapsed() > self.time {
            return Err(Spent::Time(self.time));
        }
        Ok(())
    }

    /// The steps that were made.
    #[cfg(test)]
    pub fn worked(&self) -> u64 {
        self.work
    }
}

/// The end of work before its goal.
#[derive(Debug)]
pub enum Stopped {
    Spent(Spent),
    /// A call of ours failed. It says nothing about the guest's files.
    Failed(std::io::Error),
}

impl From<Spent> for Stopped {
    fn from(spent: Spent) -> Self {
        Self::Spent(spent)
    }
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<rustix::io::Errno> for Stopped {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Failed(errno.into())
    }
}

impl Stopped {
    /// The error in the form of the host edge. `what` continues "could not".
    pub fn into_error(self, what: String) -> HvError {
        match self {
            Self::Spent(spent) => HvError::Refused { what, detail: spent.to_string() },
            Self::Failed(source) => HvError::Io { what, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn each_part_of_a_budget_runs_out_on_its_own() {
        let mut budget = Budget::new(2, 10, HOUR, Cancel::default());
        assert_eq!((budget.entry(), budget.entry()), (Ok(()), Ok(())));
        assert_eq!(budget.entry(), Err(Spent::Entries));
        assert_eq!(budget.bytes(11), Err(Spent::Bytes));
        assert_eq!((budget.bytes(10), budget.bytes_left()), (Ok(()), 0));
        let mut late = Budget::of_entries(9, Duration::ZERO);
        assert_eq!(late.entry(), Err(Spent::Time(Duration::ZERO)));
    }

    #[test]
    fn a_dropped_future_cancels_its_work() {
        let cancel = Cancel::default();
        let mut budget = Budget::new(9, 0, HOUR, cancel.clone());
        let guard = CancelOnDrop(cancel);
        assert_eq!(budget.work(), Ok(()));
        drop(guard);
        assert_eq!(budget.work(), Err(Spent::Cancelled));
    }
}
