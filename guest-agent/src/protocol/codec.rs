//! Bytes to frames and back, without io. Every incoming byte is hostile: it is bounded before
//! allocation and never causes a panic. A bad frame costs only itself.
//!
//! The work is linear in the bytes that came: at most [`Decoder::WORK_PER_BYTE`] bytes are
//! checksummed for each byte that was fed. A header can claim a megabyte that holds the next
//! header, so a decoder that gives up one byte after each bad frame would checksum the same
//! megabyte again and again. The budget stops that: once it is used up, a bad frame is given up
//! with all the bytes that it claims.

use super::frame::{Frame, FrameError, HEADER_LEN, Header, MAGIC, MAX_PAYLOAD, VERSION, checksum};

/// Appends a frame to `out`.
///
/// # Errors
/// [`FrameError::TooLong`] if the payload is above [`MAX_PAYLOAD`]; `out` is then unchanged.
pub fn encode(frame: &Frame, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let length =
        u32::try_from(frame.payload.len()).map_err(|_| FrameError::TooLong(frame.payload.len()))?;
    if frame.payload.len() > MAX_PAYLOAD {
        return Err(FrameError::TooLong(frame.payload.len()));
    }
    let mut head = Vec::with_capacity(HEADER_LEN);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&[VERSION, frame.kind as u8]);
    head.extend_from_slice(&frame.flags.to_be_bytes());
    head.extend_from_slice(&frame.stream.to_be_bytes());
    head.extend_from_slice(&length.to_be_bytes());
    let crc = checksum(&head, &frame.payload);
    out.reserve(HEADER_LEN + frame.payload.len());
    out.extend_from_slice(&head);
    out.extend_from_slice(&crc.to_be_bytes());
    out.extend_from_slice(&frame.payload);
    Ok(())
}

/// Turns a stream of bytes into frames: feed it, then call [`Decoder::next_frame`] until it returns
/// nothing.
///
/// It holds at most one incomplete frame and the bytes that were fed since.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// The used length of `buffer`. It is cut off from time to time, so that many small frames do
    /// not shift the buffer each time.
    start: usize,
    /// The bytes that may be checksummed another time.
    budget: usize,
    /// All bytes that were checksummed.
    checksummed: u64,
    /// Within a stretch of garbage that was reported already.
    lost: bool,
}

impl Decoder {
    /// A decoder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most bytes that are checksummed for each byte that was fed: once as itself, and the
    /// rest where frames were bad.
    pub const WORK_PER_BYTE: usize = 4;

    /// The most bytes that a peer can save up for being checksummed again: a peer that was honest
    /// for long gets no more than one that begins.
    const SAVINGS: usize = (Self::WORK_PER_BYTE - 1) * (MAX_PAYLOAD + HEADER_LEN);

    /// Adds bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        // Not each time: each byte is moved at most as often as bytes before it were used up.
        if self.start > self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
        let earned = bytes.len().saturating_mul(Self::WORK_PER_BYTE - 1);
        self.budget = self.budget.saturating_add(earned).min(Self::SAVINGS);
    }

    /// The number of bytes that were checksummed so far. This is the work of the decoder.
    pub fn checksummed(&self) -> u64 {
        self.checksummed
    }

    /// Whether the beginning of a frame waits for its rest.
    pub fn is_partial(&self) -> bool {
        self.start < self.buffer.len()
    }

    /// Gives up on the incomplete frame and looks for the next one in the remaining bytes.
    ///
    /// This is for a channel whose other side may be replaced in the middle of a frame. Otherwise
    /// the new side's frames would be taken for the payload of the old frame.
    pub fn skip_partial(&mut self) {
        if self.is_partial() {
            self.start += 1;
            self.lost = true;
        }
    }

    /// The next frame, or the error in it; `None` if more bytes are needed.
    ///
    /// After an error the decoder has moved on to the next magic; calling again is always right.
    pub fn next_frame(&mut self) -> Option<Result<Frame, FrameError>> {
        if self.seek_magic() && !std::mem::replace(&mut self.lost, true) {
            return Some(Err(FrameError::Garbage));
        }
        let pending = self.buffer.get(self.start..)?;
        let head = pending.first_chunk::<HEADER_LEN>()?;
        let header = match Header::parse(head) {
            Ok(header) => header,
            Err(why) => return Some(Err(self.reject(why))),
        };
        let payload = pending.get(HEADER_LEN..HEADER_LEN + header.length)?;
        let length = HEADER_LEN + header.length;
        self.checksummed += length as u64;
        match header.check(head, payload) {
            Ok(frame) => {
                self.start += length;
                self.lost = false;
                Some(Ok(frame))
            }
            Err(why) => Some(Err(self.reject_checked(length, why))),
        }
    }

    /// The bytes of this frame were checksummed. While the budget allows that they are
    /// checksummed again, the payload is searched for the next good frame.
    fn reject_checked(&mut self, length: usize, why: FrameError) -> FrameError {
        let given_up = match self.budget.checked_sub(length) {
            Some(rest) => {
                self.budget = rest;
                1
            }
            None => length,
        };
        self.start += given_up;
        self.lost = true;
        why
    }

    /// Moves to the first byte that may begin a frame; whether anything was skipped.
    fn seek_magic(&mut self) -> bool {
        let pending = self.buffer.get(self.start..).unwrap_or_default();
        let skip = (0..pending.len())
            .find(|at| {
                pending.get(*at..).is_some_and(|rest| rest.iter().zip(&MAGIC).all(|(a, b)| a == b))
            })
            .unwrap_or(pending.len());
        self.start += skip;
        skip > 0
    }

    /// Only the first byte is given up: the payload of a broken frame may hold the next good one.
    fn reject(&mut self, why: FrameError) -> FrameError {
        self.start += 1;
        self.lost = true;
        why
    }
}
