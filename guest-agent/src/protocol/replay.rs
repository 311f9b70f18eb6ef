//! The bounded memory of one output stream: the bytes that were produced and not yet acknowledged,
//! by offset.
//!
//! ```text
//!   0 ......... first ................. end          first + capacity
//!     forgotten   kept, to be replayed     free       (full: push takes nothing, the child waits)
//! ```
//!
//! A stream that is longer than its limit ends with a gap and its last bytes. Offsets are always
//! those of the whole stream:
//!
//! ```text
//!   first ......... gap.offset ......... gap.end ......... end
//!     its beginning     missing             its last bytes
//! ```

use std::collections::VecDeque;

use super::message::StreamRange;

/// Keeps bytes until they are acknowledged; never more than its capacity, never drops one.
#[derive(Debug)]
pub struct Replay {
    kept: VecDeque<u8>,
    first: u64,
    capacity: usize,
    gap: Option<Gap>,
}

/// The missing bytes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The offset of the first one.
    pub offset: u64,
    /// Their number.
    pub missing: u64,
}

impl Gap {
    /// The offset of the first byte after them.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.missing)
    }
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
    /// The bytes there were never kept.
    #[error("offset {offset} is in a gap that ends at {end}")]
    Missing {
        /// The requested offset.
        offset: u64,
        /// One past the last byte that is missing.
        end: u64,
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
        Self { kept: VecDeque::new(), first: 0, capacity, gap: None }
    }

    /// The first offset that can still be read.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// One past the last byte produced.
    pub fn end(&self) -> u64 {
        let missing = self.gap_ahead().map_or(0, |gap| gap.missing);
        self.first + self.kept.len() as u64 + missing
    }

    /// The gap that begins at this offset.
    pub fn gap_at(&self, offset: u64) -> Option<Gap> {
        self.gap_ahead().filter(|gap| gap.offset == offset)
    }

    /// The gap, unless it is acknowledged.
    fn gap_ahead(&self) -> Option<Gap> {
        self.gap.filter(|gap| self.first <= gap.offset)
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

    /// Ends the stream: this number of bytes is missing, then the last ones come. They are taken
    /// whatever the capacity is, because the caller kept them within a bound of its own.
    pub fn finish(&mut self, missing: u64, last: impl IntoIterator<Item = u8>) {
        if missing > 0 {
            self.gap = Some(Gap { offset: self.end(), missing });
        }
        self.kept.extend(last);
    }

    /// The place of an offset among the kept bytes.
    fn place(&self, offset: u64) -> Result<usize, ReplayError> {
        if offset < self.first {
            return Err(ReplayError::Forgotten { offset, first: self.first });
        }
        let missing = match self.gap_ahead() {
            Some(gap) if offset >= gap.end() => gap.missing,
            Some(gap) if offset > gap.offset => {
                return Err(ReplayError::Missing { offset, end: gap.end() });
            }
            _ => 0,
        };
        let place = usize::try_from(offset - self.first - missing).unwrap_or(usize::MAX);
        if place > self.kept.len() {
            return Err(ReplayError::BeyondEnd { offset, end: self.end() });
        }
        Ok(place)
    }

    /// Forgets the bytes before `offset`. An older acknowledgement is not an error: it arrived
    /// late.
    pub fn ack(&mut self, offset: u64) -> Result<(), ReplayError> {
        if offset <= self.first {
            return Ok(());
        }
        let place = self.place(offset)?;
        self.kept.drain(..place);
        self.first = offset;
        Ok(())
    }

    /// At most `max` bytes from `offset` on; empty at the end, and where a gap begins.
    pub fn read_from(&self, offset: u64, max: usize) -> Result<Vec<u8>, ReplayError> {
        let skip = self.place(offset)?;
        let before_gap = match self.gap_ahead().filter(|gap| offset <= gap.offset) {
            Some(gap) => self.place(gap.offset)?,
            None => self.kept.len(),
        };
        let upto = before_gap.min(skip.saturating_add(max));
        let (front, back) = self.kept.as_slices();
        let part = |slice: &[u8], before: usize| {
            let clamp = |at: usize| at.saturating_sub(before).min(slice.len());
            slice.get(clamp(skip)..clamp(upto)).unwrap_or_default().to_vec()
        };
        Ok([part(front, 0), part(back, front.len())].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gapped() -> Replay {
        let mut replay = Replay::new(8);
        assert_eq!(replay.push(b"begin"), 5);
        replay.finish(100, *b"the end");
        replay
    }

    #[test]
    fn a_gap_stands_between_the_beginning_and_the_last_bytes() {
        let replay = gapped();
        assert_eq!(replay.end(), 112);
        assert_eq!(replay.read_from(2, 99).unwrap(), b"gin");
        assert_eq!(replay.read_from(5, 99).unwrap(), b"");
        assert_eq!(replay.gap_at(5), Some(Gap { offset: 5, missing: 100 }));
        assert_eq!(replay.read_from(105, 3).unwrap(), b"the");
        assert_eq!(replay.read_from(108, 99).unwrap(), b" end");
        assert_eq!(replay.read_from(6, 1), Err(ReplayError::Missing { offset: 6, end: 105 }));
        assert_eq!(replay.read_from(113, 1), Err(ReplayError::BeyondEnd { offset: 113, end: 112 }));
    }

    #[test]
    fn acknowledgements_go_over_a_gap_and_not_into_it() {
        let mut replay = gapped();
        assert_eq!(replay.ack(50), Err(ReplayError::Missing { offset: 50, end: 105 }));
        replay.ack(5).unwrap();
        assert_eq!((replay.first(), replay.end()), (5, 112));
        replay.ack(105).unwrap();
        assert_eq!((replay.gap_at(5), replay.end()), (None, 112));
        assert_eq!(replay.read_from(105, 99).unwrap(), b"the end");
        replay.ack(112).unwrap();
        replay.ack(3).unwrap();
        assert_eq!((replay.first(), replay.end()), (112, 112));
    }

    #[test]
    fn an_end_without_missing_bytes_has_no_gap() {
        let mut replay = Replay::new(8);
        replay.push(b"begin");
        replay.finish(0, *b"+end");
        assert_eq!((replay.gap_at(5), replay.end()), (None, 9));
        assert_eq!(replay.read_from(3, 99).unwrap(), b"in+end");
    }
}
