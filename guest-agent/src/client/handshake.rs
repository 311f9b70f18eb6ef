//! The host's half of the handshake.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Client, ClientError};
use crate::protocol::{GuestHello, GuestMessage, HostHello, HostMessage, ReadError};

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Sends HELLO and waits for the agent's HELLO, which must repeat the challenge. The caller
    /// sets the deadline.
    ///
    /// The client throws away everything before that HELLO. On a serial port it may be the tail of
    /// messages to the last host, and the run inside may have put forged frames into it. Hence the
    /// challenge: make it of random bytes.
    pub async fn hello(&mut self, hello: HostHello) -> Result<GuestHello, ClientError> {
        let challenge = hello.challenge.clone();
        self.send(HostMessage::Hello(hello)).await?;
        loop {
            let frame = match self.reader.read().await {
                Ok(Some(frame)) => frame,
                Ok(None) => return Err(ClientError::Closed),
                Err(ReadError::Frame(_) | ReadError::Stalled) => continue,
                Err(why) => return Err(ClientError::Read(why)),
            };
            match GuestMessage::from_frame(&frame) {
                Ok(GuestMessage::Hello(answer)) if answer.challenge == challenge => {
                    return Ok(answer);
                }
                Ok(GuestMessage::Error(report))
                    if report.challenge.as_ref() == Some(&challenge) =>
                {
                    return Err(ClientError::SessionRefused(report));
                }
                _ => {}
            }
        }
    }
}
