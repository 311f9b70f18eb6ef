//! Requests: the client sends one message, and the agent acknowledges or refuses it.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::{Client, ClientError};
use crate::protocol::{
    CHUNK, FileChunk, GuestAck, GuestLease, GuestMessage, HostMessage, Inspection, Nonce,
    Rehydrate, Stop,
};

/// The messages that may come before an answer. An agent sends STATUS every few seconds, and only
/// while an attempt runs.
const NEWS: usize = 64;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Gives the machine its identity.
    pub async fn rehydrate(
        &mut self,
        identity: Rehydrate,
        patience: Duration,
    ) -> Result<(), ClientError> {
        let wanted = GuestAck::Rehydrate { nonce: identity.nonce.clone() };
        self.confirm(HostMessage::Rehydrate(identity), patience, &wanted).await
    }

    /// Makes the machine hold an address that a DHCP server gives. The answer is a claim of the
    /// guest. It is `None` where the agent runs without a machine.
    pub async fn lease(
        &mut self,
        lease: GuestLease,
        patience: Duration,
    ) -> Result<Option<Ipv4Addr>, ClientError> {
        let take = |ack: &GuestAck| match ack {
            GuestAck::Lease { address } => Some(*address),
            _ => None,
        };
        self.ask(HostMessage::Lease(lease), patience, take).await
    }

    /// Has the agent run its rehearsal.
    pub async fn warm(&mut self, patience: Duration) -> Result<(), ClientError> {
        self.confirm(HostMessage::Warm, patience, &GuestAck::Warm).await
    }

    /// Puts a file into the machine's folder for secrets. The agent has `patience` for each piece.
    pub async fn send_file(
        &mut self,
        path: &str,
        mode: u32,
        content: &[u8],
        patience: Duration,
    ) -> Result<(), ClientError> {
        for chunk in pieces(path, mode, content) {
            let offset = chunk.offset + chunk.data.len() as u64;
            let wanted = GuestAck::File { path: path.to_owned(), offset };
            self.confirm(HostMessage::File(chunk), patience, &wanted).await?;
        }
        Ok(())
    }

    /// Makes the machine ready for a capture: the agent forgets its peers and keeps the nonce
    /// `golden`. The answer is the agent's view of its machine, which every copy must repeat.
    pub async fn quiesce(
        &mut self,
        golden: Nonce,
        patience: Duration,
    ) -> Result<Inspection, ClientError> {
        let message = HostMessage::Stop(Stop::Quiesce { golden: Some(golden.clone()) });
        let take = |ack: &GuestAck| match ack {
            GuestAck::Quiesce { inspection } => Some(inspection.clone()),
            _ => None,
        };
        let seen = self.ask(message, patience, take).await?;
        seen.filter(|inspection| inspection.golden.as_ref() == Some(&golden))
            .ok_or(ClientError::Unexpected("a QUIESCE that does not say what it leaves"))
    }

    /// Turns the machine off.
    pub async fn power_off(&mut self, patience: Duration) -> Result<(), ClientError> {
        self.confirm(HostMessage::Stop(Stop::PowerOff), patience, &GuestAck::PowerOff).await
    }

    /// Sends a request whose acknowledgement is known.
    pub(super) async fn confirm(
        &mut self,
        message: HostMessage,
        patience: Duration,
        wanted: &GuestAck,
    ) -> Result<(), ClientError> {
        self.ask(message, patience, |ack| (ack == wanted).then_some(())).await
    }

    /// Sends a request whose acknowledgement carries data. STATUS and PING may come before it.
    async fn ask<T>(
        &mut self,
        message: HostMessage,
        patience: Duration,
        take: impl Fn(&GuestAck) -> Option<T>,
    ) -> Result<T, ClientError> {
        self.send(message).await?;
        timeout(patience, self.answer(take)).await.map_err(|_| ClientError::Silent)?
    }

    async fn answer<T>(&mut self, take: impl Fn(&GuestAck) -> Option<T>) -> Result<T, ClientError> {
        for _ in 0..=NEWS {
            let answer = match self.next().await? {
                GuestMessage::Error(report) => return Err(ClientError::Refused(report)),
                GuestMessage::Status(_) | GuestMessage::Ping(_) => continue,
                answer => answer,
            };
            let taken = if let GuestMessage::Ack(ack) = &answer { take(ack) } else { None };
            return taken.ok_or_else(|| ClientError::unexpected(&answer));
        }
        Err(ClientError::Unexpected("news without end in place of an answer"))
    }
}

/// The messages for one file. An empty file is one empty piece.
fn pieces(path: &str, mode: u32, content: &[u8]) -> impl Iterator<Item = FileChunk> {
    let size = content.len() as u64;
    let empty: &[u8] = &[];
    let data = content.chunks(CHUNK).chain(content.is_empty().then_some(empty));
    data.scan(0_u64, move |next, data| {
        let offset = *next;
        *next += data.len() as u64;
        Some(FileChunk { path: path.to_owned(), mode, size, offset, data: data.to_vec() })
    })
}
