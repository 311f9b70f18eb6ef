//! The host's half of the handshake.

use tokio::io::{AsyncRead, AsyncWrite};

use super::io::{FrameReader, FrameWriter, ReadError, WriteError};
use super::message::{ErrorReport, GuestHello, GuestMessage, HostHello, HostMessage, MessageError};

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The channel ended before the guest's HELLO.
    #[error("the control channel closed before the agent answered")]
    Closed,
    /// The agent said no.
    #[error("the agent refused the session: {}", .0.message)]
    Refused(ErrorReport),
    /// The channel broke while reading.
    #[error("the agent's answer could not be read")]
    Read(#[source] ReadError),
    /// The channel broke while writing.
    #[error("the greeting could not be sent")]
    Write(#[source] WriteError),
    /// The greeting is no message.
    #[error("the greeting could not be encoded")]
    Encode(#[source] MessageError),
}

/// Sends HELLO and waits for the guest's, which must repeat the challenge. The caller sets the deadline.
///
/// Everything before that HELLO is thrown away: on a serial port it may be the tail of what the agent sent to the
/// last host, and the run inside may have put forged frames into it. Hence the challenge: make it of random bytes.
pub async fn connect<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
    hello: HostHello,
) -> Result<GuestHello, ConnectError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let challenge = hello.challenge.clone();
    let frame = HostMessage::Hello(hello).into_frame().map_err(ConnectError::Encode)?;
    writer.write(&frame).await.map_err(ConnectError::Write)?;
    loop {
        let frame = match reader.read().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(ConnectError::Closed),
            Err(ReadError::Frame(_) | ReadError::Stalled) => continue,
            Err(why) => return Err(ConnectError::Read(why)),
        };
        match GuestMessage::from_frame(&frame) {
            Ok(GuestMessage::Hello(answer)) if answer.challenge == challenge => return Ok(answer),
            Ok(GuestMessage::Error(report)) if report.challenge.as_ref() == Some(&challenge) => {
                return Err(ConnectError::Refused(report));
            }
            _ => {}
        }
    }
}
