//! The messages, typed for each direction, and their frames.
//!
//! Control messages are JSON. They ignore unknown fields, so that either side may be newer. OUTPUT
//! and FILE carry a small binary header and raw bytes: see `binary.rs`.

mod binary;
mod env;
mod guest;
mod host;
mod inspection;
mod lease;
mod network;

pub use env::EnvVar;
pub use guest::{
    AttemptReport, AttemptState, ErrorCode, ErrorReport, GuestAck, GuestHello, OutputChunk,
    OutputGap, Status, StreamId, StreamRange, StreamTotals, WireResult,
};
pub use host::{Execute, FileChunk, HostAck, HostHello, Ping, Rehydrate, Resume, RunAs, Stop};
pub use inspection::{Inspection, InspectionError};
pub use lease::GuestLease;
pub use network::{GuestIpv6, GuestNetwork};

use agentvm_types::GuestText;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::frame::{Frame, FrameType, MAX_PAYLOAD};

/// From the host to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is documented at its payload")]
pub enum HostMessage {
    Hello(HostHello),
    Rehydrate(Rehydrate),
    Lease(GuestLease),
    Execute(Execute),
    File(FileChunk),
    Stop(Stop),
    Ack(HostAck),
    Resume(Resume),
    Ping(Ping),
    Warm,
}

/// From the guest to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is documented at its payload")]
pub enum GuestMessage {
    Hello(GuestHello),
    Ack(GuestAck),
    Output(OutputChunk),
    Gap(OutputGap),
    Status(Status),
    Result(WireResult),
    Error(ErrorReport),
    Ping(Ping),
}

/// Why a frame is no message, or a message no frame.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// A message of this type doesn't go in this direction.
    #[error("a {0:?} frame does not belong in this direction")]
    Direction(FrameType),
    /// The JSON isn't, or lacks a field.
    #[error("the payload of a {kind:?} frame could not be read: {why}")]
    Json {
        /// The frame's type.
        kind: FrameType,
        /// The words of the parser. They may quote the payload.
        why: GuestText,
    },
    /// The message is longer than a frame may be.
    #[error("a {kind:?} message of {length} bytes is too long; {MAX_PAYLOAD} is the limit")]
    TooLong {
        /// The frame's type.
        kind: FrameType,
        /// The length of the payload.
        length: usize,
    },
    /// The binary header is cut short or out of range.
    #[error("the binary header of a {0:?} frame is malformed")]
    Binary(FrameType),
}

impl HostMessage {
    /// Encodes it.
    pub fn into_frame(self) -> Result<Frame, MessageError> {
        match self {
            Self::Hello(body) => json_frame(FrameType::Hello, &body),
            Self::Rehydrate(body) => json_frame(FrameType::Rehydrate, &body),
            Self::Lease(body) => json_frame(FrameType::Lease, &body),
            Self::Execute(body) => json_frame(FrameType::Execute, &body),
            Self::File(chunk) => binary::file_frame(&chunk),
            Self::Stop(body) => json_frame(FrameType::Stop, &body),
            Self::Ack(body) => json_frame(FrameType::Ack, &body),
            Self::Resume(body) => json_frame(FrameType::Resume, &body),
            Self::Ping(body) => json_frame(FrameType::Ping, &body),
            Self::Warm => json_frame(FrameType::Warm, &Nothing {}),
        }
    }

    /// Decodes a frame of a host.
    pub fn from_frame(frame: &Frame) -> Result<Self, MessageError> {
        match frame.kind {
            FrameType::Hello => json(frame).map(Self::Hello),
            FrameType::Rehydrate => json(frame).map(Self::Rehydrate),
            FrameType::Lease => json(frame).map(Self::Lease),
            FrameType::Execute => json(frame).map(Self::Execute),
            FrameType::File => binary::file(frame).map(Self::File),
            FrameType::Stop => json(frame).map(Self::Stop),
            FrameType::Ack => json(frame).map(Self::Ack),
            FrameType::Resume => json(frame).map(Self::Resume),
            FrameType::Ping => json(frame).map(Self::Ping),
            FrameType::Warm => json(frame).map(|Nothing {}| Self::Warm),
            kind @ (FrameType::Output
            | FrameType::Gap
            | FrameType::Status
            | FrameType::Result
            | FrameType::Error) => Err(MessageError::Direction(kind)),
        }
    }
}

impl GuestMessage {
    /// Encodes it.
    pub fn into_frame(self) -> Result<Frame, MessageError> {
        match self {
            Self::Hello(body) => json_frame(FrameType::Hello, &body),
            Self::Ack(body) => json_frame(FrameType::Ack, &body),
            Self::Output(output) => Ok(binary::output_frame(&output)),
            Self::Gap(body) => json_frame(FrameType::Gap, &body),
            Self::Status(body) => json_frame(FrameType::Status, &body),
            Self::Result(body) => json_frame(FrameType::Result, &body),
            Self::Error(body) => json_frame(FrameType::Error, &body),
            Self::Ping(body) => json_frame(FrameType::Ping, &body),
        }
    }

    /// Decodes a frame of a guest.
    pub fn from_frame(frame: &Frame) -> Result<Self, MessageError> {
        match frame.kind {
            FrameType::Hello => json(frame).map(Self::Hello),
            FrameType::Ack => json(frame).map(Self::Ack),
            FrameType::Output => binary::output(frame).map(Self::Output),
            FrameType::Gap => json(frame).map(Self::Gap),
            FrameType::Status => json(frame).map(Self::Status),
            FrameType::Result => json(frame).map(Self::Result),
            FrameType::Error => json(frame).map(Self::Error),
            FrameType::Ping => json(frame).map(Self::Ping),
            kind @ (FrameType::Rehydrate
            | FrameType::Lease
            | FrameType::Execute
            | FrameType::Stop
            | FrameType::File
            | FrameType::Resume
            | FrameType::Warm) => Err(MessageError::Direction(kind)),
        }
    }
}

/// A message whose type says everything. It is an object, so that a newer side can add fields.
#[derive(Serialize, Deserialize)]
struct Nothing {}

fn json_frame<T: Serialize>(kind: FrameType, body: &T) -> Result<Frame, MessageError> {
    let payload = serde_json::to_vec(body).map_err(|why| unreadable(kind, &why))?;
    let length = payload.len();
    if length > MAX_PAYLOAD {
        return Err(MessageError::TooLong { kind, length });
    }
    Ok(Frame { kind, flags: 0, stream: 0, payload })
}

fn json<T: DeserializeOwned>(frame: &Frame) -> Result<T, MessageError> {
    serde_json::from_slice(&frame.payload).map_err(|why| unreadable(frame.kind, &why))
}

fn unreadable(kind: FrameType, why: &serde_json::Error) -> MessageError {
    MessageError::Json { kind, why: why.to_string().into() }
}
