//! The bounded memory of one output stream: the bytes that were produced and not yet acknowledged,
//! by offset.
//!
//! ```text
//!   0 ......... first ................. end          first + capacity
//!     forgotten   kept, to be replayed     free       (full: push takes nothing, the child waits)
//! ```

use std::collections::VecDeque;

use super::message::StreamRange;

/// Keeps bytes until they are acknowledged; never more than its capacity, never drops one.
#[derive(Debug)]
pub struct Replay {
    kept: VecDeque<u8>,
    first: u64,
    capacity: usize,
}

/// An offset that the buffer can't answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The bytes there were acknowledged and are gone.
    #[error("offset {offset} was acknowledged already; the first that is kept is {first}")]
    Forgotten {
        /// The requested offset.
        offset: u64,
        /// The first that is kept.
        first: u64,
    },
    /// No such bytes have been produced.
    #[error("offset {offset} is beyond the end at {end}")]
    BeyondEnd {
        /// The requested offset.
        offset: u64,
        /// One past the last byte produced.
        end: u64,
    },
}

impl Replay {
    /// An empty buffer at offset 0. Memory is taken as it fills.
    pub fn new(capacity: usize) -> Self {
        Self { kept: VecDeque::new(), first: 0, capacity }
    }

    /// The first offset that can still be read.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// One past the last byte produced.
    pub fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Both, as HELLO reports them.
    pub fn range(&self) -> StreamRange {
        StreamRange { first: self.first(), end: self.end() }
    }

    /// The number of bytes that [`Replay::push`] would take.
    pub fn free(&self) -> usize {
        self.capacity.saturating_sub(self.kept.len())
    }

    /// Takes the bytes that there is room for, and returns their number.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.free());
        self.kept.extend(bytes.get(..taken).unwrap_or_default());
        taken
    }

    /// Forgets the bytes before `offset`. An older acknowledgement is not an error: it arrived
    /// late.
    pub fn ack(&mut self, offset: u64) -> Result<(), ReplayError> {
        let end = self.end();
        if offset > end {
            return Err(ReplayError::BeyondEnd { offset, end });
        }
        let drop = usize::try_from(offset.saturating_sub(self.first)).unwrap_or(self.kept.len());
        self.kept.drain(..drop.min(self.kept.len()));
        self.first = self.first.max(offset);
        Ok(())
    }

    /// At most `max` bytes from `offset` on; empty at the end.
    pub fn read_from(&self, offset: u64, max: usize) -> Result<Vec<u8>, ReplayError> {
        if offset < self.first {
            return Err(ReplayError::Forgotten { offset, first: self.first });
        }
        let end = self.end();
        let skip = usize::try_from(offset - self.first).unwrap_or(usize::MAX);
        if skip > self.kept.len() {
            return Err(ReplayError::BeyondEnd { offset, end });
        }
        let upto = self.kept.len().min(skip.saturating_add(max));
        let (front, back) = self.kept.as_slices();
        let part = |slice: &[u8], before: usize| {
            let clamp = |at: usize| at.saturating_sub(before).min(slice.len());
            slice.get(clamp(skip)..clamp(upto)).unwrap_or_default().to_vec()
        };
        Ok([part(front, 0), part(back, front.len())].concat())
    }
}
