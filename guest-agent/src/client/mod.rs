//! The host's side of the protocol: the only client of the agent.
//!
//! ```text
//!   Client::hello      handshake.rs   HELLO, until the agent repeats the challenge
//!   Client::rehydrate  requests.rs    one message, one acknowledgement: REHYDRATE, LEASE, WARM,
//!                                     FILE, QUIESCE, POWEROFF
//!   Client::execute    execution.rs   EXECUTE or RESUME, then events up to RESULT
//!   ClientError        error.rs       the reason why a session could not be had, or ended
//! ```
//!
//! The client has no clock and no randomness of its own: challenges, nonces, entropy, times and the
//! patience for each answer are arguments. It needs no host, so tests run it over any stream.
//!
//! Each byte from a guest is hostile. A message that is malformed, unexpected or too much ends the
//! session.

mod error;
mod execution;
mod handshake;
mod requests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio::time::timeout;

pub use error::ClientError;
pub use execution::{AttemptEvent, Execution};

use crate::protocol::{FrameReader, FrameWriter, GuestMessage, HostMessage};

/// The time that an agent may take to read one message. An agent that reads nothing is broken.
const WRITE: Duration = Duration::from_secs(30);

/// One connection to an agent.
pub struct Client<S> {
    reader: FrameReader<ReadHalf<S>>,
    writer: FrameWriter<WriteHalf<S>>,
}

impl<S> std::fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Wraps a connected stream. [`Client::hello`] begins the session.
    pub fn new(stream: S) -> Self {
        let (read, write) = split(stream);
        Self { reader: FrameReader::new(read), writer: FrameWriter::new(write) }
    }

    /// Sends one message.
    ///
    /// This is not safe to cancel: half a message may have been sent. Drop the client then.
    pub async fn send(&mut self, message: HostMessage) -> Result<(), ClientError> {
        let frame = message.into_frame().map_err(ClientError::Unsendable)?;
        timeout(WRITE, self.writer.write(&frame))
            .await
            .map_err(|_| ClientError::NotReading)?
            .map_err(ClientError::Write)
    }

    /// The next message of the agent. This is safe to cancel: no byte is lost.
    pub async fn next(&mut self) -> Result<GuestMessage, ClientError> {
        let frame =
            self.reader.read().await.map_err(ClientError::Read)?.ok_or(ClientError::Closed)?;
        GuestMessage::from_frame(&frame).map_err(ClientError::Message)
    }
}
