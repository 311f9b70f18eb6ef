//! One frame: a fixed header, a payload, a checksum. It does not know the meaning of payloads.
//!
//! ```text
//!   0      4        5     6       8         12        16       20
//!   | AGVM | version| type| flags | stream  | length  | crc-32 | payload ...
//! ```
//!
//! Big-endian. The CRC-32 (IEEE) covers the first 16 bytes of the header and the payload.

/// Starts every frame; the decoder looks for it after a bad frame.
pub const MAGIC: [u8; 4] = *b"AGVM";
/// The version of the framing. HELLO has the version of the messages.
pub const VERSION: u8 = 1;
/// Bytes before the payload.
pub const HEADER_LEN: usize = 20;
/// The longest payload that is accepted; checked before anything is allocated for it.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// The kind of a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameType {
    /// The first frame of each side.
    Hello = 1,
    /// Gives a machine its identity.
    Rehydrate = 2,
    /// Starts an attempt.
    Execute = 3,
    /// Bytes of stdout or stderr, with their offset.
    Output = 4,
    /// The guest's own usage figures.
    Status = 5,
    /// The end of an attempt.
    Result = 6,
    /// A refusal, with its reason.
    Error = 7,
    /// Ends an attempt, the provisioning, or the machine.
    Stop = 8,
    /// A piece of a file for the secrets tmpfs.
    File = 9,
    /// Something was done, or received.
    Ack = 10,
    /// Where to replay output from.
    Resume = 11,
    /// Asks for the same back.
    Ping = 12,
    /// Goes through the motions of an attempt, so that the first real one is fast.
    Warm = 13,
    /// Has a machine hold an address that a DHCP server gave it.
    Lease = 14,
    /// A part of stdout or stderr that is missing between its beginning and its end.
    Gap = 15,
}

impl FrameType {
    /// Every type there is, for tests and tables.
    pub const ALL: [Self; 15] = [
        Self::Hello,
        Self::Rehydrate,
        Self::Execute,
        Self::Output,
        Self::Status,
        Self::Result,
        Self::Error,
        Self::Stop,
        Self::File,
        Self::Ack,
        Self::Resume,
        Self::Ping,
        Self::Warm,
        Self::Lease,
        Self::Gap,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A frame as it was sent; `flags` are reserved and zero today.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The kind of the payload.
    pub kind: FrameType,
    /// Reserved; a reader ignores unknown flags.
    pub flags: u16,
    /// Which stream OUTPUT belongs to; 0 for everything else.
    pub stream: u32,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
}

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Bytes between frames that are no frame; reported once for each stretch of them.
    #[error("bytes that are no frame were skipped")]
    Garbage,
    /// The other side speaks another framing.
    #[error("frame version {0} is not supported; this side speaks version {VERSION}")]
    Version(u8),
    /// A type that this side doesn't know.
    #[error("frame type {0} is not known")]
    UnknownType(u8),
    /// The announced length is above the limit.
    #[error("a payload of {0} bytes is announced; {MAX_PAYLOAD} is the limit")]
    TooLong(usize),
    /// The checksum doesn't fit the bytes.
    #[error("checksum mismatch in a frame of {0} bytes")]
    Checksum(usize),
}

/// A parsed header whose length is within bounds; the checksum is still to be compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    kind: FrameType,
    flags: u16,
    stream: u32,
    pub(super) length: usize,
    crc: u32,
}

impl Header {
    /// Reads the header after a magic that was checked already.
    pub(super) fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let [_, _, _, _, version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3, c0, c1, c2, c3] =
            *bytes;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_PAYLOAD {
            return Err(FrameError::TooLong(length));
        }
        Ok(Self {
            kind: FrameType::from_byte(kind).ok_or(FrameError::UnknownType(kind))?,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length,
            crc: u32::from_be_bytes([c0, c1, c2, c3]),
        })
    }

    /// Joins header and payload if the checksum agrees; `head` are the bytes of this header.
    pub(super) fn check(
        self,
        head: &[u8; HEADER_LEN],
        payload: &[u8],
    ) -> Result<Frame, FrameError> {
        let (covered, _) = head.split_at(HEADER_LEN - 4);
        if checksum(covered, payload) != self.crc {
            return Err(FrameError::Checksum(payload.len()));
        }
        Ok(Frame {
            kind: self.kind,
            flags: self.flags,
            stream: self.stream,
            payload: payload.to_vec(),
        })
    }
}

/// CRC-32 of the covered part of the header and the payload.
pub(super) fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}
