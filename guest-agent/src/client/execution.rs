//! One attempt, from EXECUTE or RESUME to RESULT.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Client, ClientError};
use crate::protocol::{
    Execute, GuestAck, GuestMessage, HostAck, HostMessage, Nonce, OutputChunk, OutputGap, Resume,
    Stop, StreamId, WireResult,
};

/// An attempt that the agent was told to run, seen over one connection.
#[derive(Debug)]
pub struct Execution<'a, S> {
    client: &'a mut Client<S>,
    nonce: Nonce,
}

/// A message of the agent about its attempt.
#[derive(Debug)]
pub enum AttemptEvent {
    /// The program wrote this. The agent keeps it until the host acknowledges it.
    Output(OutputChunk),
    /// The stream was longer than its limit, so this part of it is missing. It is acknowledged like
    /// output, with the offset of its end.
    Gap(OutputGap),
    /// The attempt ended. The agent repeats this on each RESUME until the host acknowledges it.
    Result(WireResult),
    /// A message that changes nothing: STATUS, PING or a late acknowledgement. The agent lives.
    Alive,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Sends EXECUTE and waits until the agent accepts it.
    pub async fn execute(
        &mut self,
        order: Execute,
        patience: Duration,
    ) -> Result<Execution<'_, S>, ClientError> {
        let nonce = order.nonce.clone();
        let wanted = GuestAck::Execute { nonce: nonce.clone() };
        self.confirm(HostMessage::Execute(order), patience, &wanted).await?;
        Ok(self.follow(nonce))
    }

    /// Asks an agent that runs the attempt, or has its result, for everything from these offsets
    /// on.
    pub async fn resume(&mut self, resume: Resume) -> Result<Execution<'_, S>, ClientError> {
        let nonce = resume.nonce.clone();
        self.send(HostMessage::Resume(resume)).await?;
        Ok(self.follow(nonce))
    }

    /// Goes on with an attempt that was executed or resumed over this connection.
    pub fn follow(&mut self, nonce: Nonce) -> Execution<'_, S> {
        Execution { client: self, nonce }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Execution<'_, S> {
    /// The next event. This is safe to cancel.
    pub async fn next(&mut self) -> Result<AttemptEvent, ClientError> {
        match self.client.next().await? {
            GuestMessage::Output(output) => Ok(AttemptEvent::Output(output)),
            GuestMessage::Gap(gap) => Ok(AttemptEvent::Gap(gap)),
            GuestMessage::Result(result) if result.nonce == self.nonce => {
                Ok(AttemptEvent::Result(result))
            }
            GuestMessage::Status(_) | GuestMessage::Ping(_) | GuestMessage::Ack(_) => {
                Ok(AttemptEvent::Alive)
            }
            GuestMessage::Error(report) => Err(ClientError::Refused(report)),
            other => Err(ClientError::unexpected(&other)),
        }
    }

    /// Says that all bytes of a stream before `offset` are kept. The agent forgets them.
    pub async fn acknowledge(&mut self, stream: StreamId, offset: u64) -> Result<(), ClientError> {
        self.client.send(HostMessage::Ack(HostAck::Output { stream, offset })).await
    }

    /// Says that the result is kept. The agent forgets the attempt.
    pub async fn acknowledge_result(&mut self) -> Result<(), ClientError> {
        let nonce = self.nonce.clone();
        self.client.send(HostMessage::Ack(HostAck::Result { nonce })).await
    }

    /// Tells the agent to end the attempt: SIGTERM, then SIGKILL after `grace`. RESULT follows.
    pub async fn stop(&mut self, grace: Duration) -> Result<(), ClientError> {
        let grace_millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let scope = Stop::Attempt { nonce: self.nonce.clone(), grace_millis };
        self.client.send(HostMessage::Stop(scope)).await
    }

    /// Follows the attempt to its result. Each piece of output goes to `keep`, then it is
    /// acknowledged; so is the result.
    pub async fn collect(
        &mut self,
        mut keep: impl FnMut(&OutputChunk),
    ) -> Result<WireResult, ClientError> {
        loop {
            match self.next().await? {
                AttemptEvent::Output(output) => {
                    keep(&output);
                    self.acknowledge(output.stream, output.end()).await?;
                }
                AttemptEvent::Gap(gap) => self.acknowledge(gap.stream, gap.end()).await?,
                AttemptEvent::Result(result) => {
                    self.acknowledge_result().await?;
                    return Ok(result);
                }
                AttemptEvent::Alive => {}
            }
        }
    }
}
