//! The reasons why a session with an agent did not start, or ended.

use crate::protocol::{ErrorCode, ErrorReport, GuestMessage, MessageError, ReadError, WriteError};

/// The reason why a session did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The agent refused the session. A new HELLO with the same token gets the same answer.
    #[error("the agent refused the session: {}", .0.message)]
    SessionRefused(ErrorReport),
    /// The agent refused a request.
    #[error("the agent refused: {}", .0.message)]
    Refused(ErrorReport),
    /// The agent sent a message that has no place here. The text names its kind and never repeats
    /// its content.
    #[error("the agent sent something that does not belong here: {0}")]
    Unexpected(&'static str),
    /// The agent did not answer in time.
    #[error("the agent did not answer in time")]
    Silent,
    /// The agent did not read in time.
    #[error("the agent does not read the messages that it gets")]
    NotReading,
    /// The stream ended.
    #[error("the agent closed the channel")]
    Closed,
    /// The stream broke while the client read, or it carried a bad frame.
    #[error("reading from the agent failed")]
    Read(#[source] ReadError),
    /// The stream broke while the client wrote.
    #[error("writing to the agent failed")]
    Write(#[source] WriteError),
    /// A frame of the agent is no message.
    #[error("a message of the agent could not be understood")]
    Message(#[source] MessageError),
    /// The host's own message cannot be sent at all: it is too long, or it has no encoding.
    #[error("the message to the agent cannot be sent")]
    Unsendable(#[source] MessageError),
}

impl ClientError {
    /// The error for a message that has no place where it came.
    pub(super) fn unexpected(message: &GuestMessage) -> Self {
        Self::Unexpected(kind(message))
    }

    /// Whether the same request gets the same answer again: the agent refused it, or it cannot be
    /// sent. A bad frame says only that the channel carried other bytes than were sent.
    pub fn is_final(&self) -> bool {
        match self {
            Self::SessionRefused(_) | Self::Unsendable(_) => true,
            Self::Refused(report) => report.code != ErrorCode::BadFrame,
            Self::Unexpected(_)
            | Self::Silent
            | Self::NotReading
            | Self::Closed
            | Self::Read(_)
            | Self::Write(_)
            | Self::Message(_) => false,
        }
    }

    /// Whether a message that the agent sent and that was understood is the reason. All other
    /// errors leave open whether the agent still lives.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::SessionRefused(_) | Self::Refused(_) | Self::Unexpected(_))
    }
}

fn kind(message: &GuestMessage) -> &'static str {
    match message {
        GuestMessage::Hello(_) => "HELLO",
        GuestMessage::Ack(_) => "ACK",
        GuestMessage::Output(_) => "OUTPUT",
        GuestMessage::Gap(_) => "GAP",
        GuestMessage::Status(_) => "STATUS",
        GuestMessage::Result(_) => "RESULT",
        GuestMessage::Error(_) => "ERROR",
        GuestMessage::Ping(_) => "PING",
    }
}
