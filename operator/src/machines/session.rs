//! One session with the agent of a machine: handshake, requests that are acknowledged, and what it says on its own.
//!
//! Every byte from a guest is hostile: what is malformed, unexpected or too much ends the session.

use std::{future::Future, time::Duration};

use agentvm_core::names::DomainName;
use agentvm_guest_agent::protocol::{
    ConnectError, FrameReader, FrameWriter, GuestHello, GuestMessage, HostHello, HostMessage,
    MessageError, Nonce, ReadError, Token, WriteError, connect,
};
use agentvm_hypervisor::{Channel, HvError, Hypervisor};
use jiff::Timestamp;
use tokio::{
    io::{ReadHalf, WriteHalf, split},
    time::{Instant, sleep, timeout},
};

/// Between two tries to reach an agent that still boots.
const RETRY: Duration = Duration::from_millis(100);
/// How long one HELLO may take before it is tried on a new connection.
const HELLO: Duration = Duration::from_secs(3);
/// How long an agent may take over one request.
const REPLY: Duration = Duration::from_secs(30);

/// Why a session could not be had, or ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("the agent in {name} did not answer within {seconds} s")]
    NoAnswer {
        name: DomainName,
        seconds: u64,
        #[source]
        last: Option<Box<SessionError>>,
    },
    #[error("the channel to the machine could not be opened")]
    Open(#[source] HvError),
    #[error("the handshake failed")]
    Handshake(#[source] ConnectError),
    #[error("reading from the agent failed")]
    Read(#[source] ReadError),
    #[error("writing to the agent failed")]
    Write(#[source] WriteError),
    #[error("the agent closed the channel")]
    Closed,
    #[error("a message could not be encoded or understood")]
    Message(#[source] MessageError),
    #[error("the agent refused: {0}")]
    Refused(String),
    #[error("the agent sent something that does not belong here: {0}")]
    Unexpected(String),
    #[error("no random bytes from the kernel")]
    Random(#[source] std::io::Error),
}

/// Why a machine did not wake.
#[derive(Debug, thiserror::Error)]
pub enum WakeError {
    #[error("the machine could not be resumed")]
    Resume(#[source] HvError),
    #[error("no session with its agent")]
    Session(#[source] SessionError),
}

/// A session.
pub struct Session {
    reader: FrameReader<ReadHalf<Channel>>,
    writer: FrameWriter<WriteHalf<Channel>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

/// How a session is begun.
#[derive(Clone, Copy, Debug)]
struct Greeting<'a> {
    token: Option<&'a str>,
    inspect: bool,
}

impl Session {
    /// Tries until the agent answers or the time is over: it may still be booting.
    pub async fn open(
        hv: &dyn Hypervisor,
        name: &DomainName,
        token: Option<&str>,
        patience: Duration,
    ) -> Result<(Self, GuestHello), SessionError> {
        Self::begin(hv, name, Greeting { token, inspect: false }, patience).await
    }

    /// The same with an agent that nobody has talked to yet; it also says what it sees of its machine.
    pub async fn inspect(
        hv: &dyn Hypervisor,
        name: &DomainName,
        patience: Duration,
    ) -> Result<(Self, GuestHello), SessionError> {
        Self::begin(hv, name, Greeting { token: None, inspect: true }, patience).await
    }

    /// Lets a paused machine run and inspects it. The greeting waits in the channel when the machine wakes, so that nothing is
    /// lost between the two. Also: when it ran.
    pub async fn wake(
        hv: &dyn Hypervisor,
        name: &DomainName,
        patience: Duration,
    ) -> Result<(Self, GuestHello, Instant), WakeError> {
        let resumed =
            async { hv.resume(name).await.map(|()| Instant::now()).map_err(WakeError::Resume) };
        let greeted = async { Self::inspect(hv, name, patience).await.map_err(WakeError::Session) };
        let (running, (session, hello)) = tokio::try_join!(resumed, greeted)?;
        Ok((session, hello, running))
    }

    async fn begin(
        hv: &dyn Hypervisor,
        name: &DomainName,
        greeting: Greeting<'_>,
        patience: Duration,
    ) -> Result<(Self, GuestHello), SessionError> {
        let deadline = Instant::now() + patience;
        let mut last = None;
        loop {
            let greeted = async {
                let channel = hv.connect(name).await.map_err(SessionError::Open)?;
                Self::greet(channel, greeting).await
            };
            match timeout(HELLO, greeted).await {
                Ok(Ok(done)) => return Ok(done),
                // A refusal is an answer: asking again gets the same.
                Ok(Err(SessionError::Handshake(why @ ConnectError::Refused(_)))) => {
                    return Err(SessionError::Handshake(why));
                }
                Ok(Err(SessionError::Open(why @ HvError::NoSuchMachine(_)))) => {
                    return Err(SessionError::Open(why));
                }
                Ok(Err(why)) => last = Some(Box::new(why)),
                Err(_) => {}
            }
            if Instant::now() >= deadline {
                return Err(SessionError::NoAnswer {
                    name: name.clone(),
                    seconds: patience.as_secs(),
                    last,
                });
            }
            sleep(RETRY).await;
        }
    }

    /// One handshake, with a challenge that nobody has seen before: an answer that was recorded doesn't fit it.
    async fn greet(
        channel: Channel,
        greeting: Greeting<'_>,
    ) -> Result<(Self, GuestHello), SessionError> {
        let (read, write) = split(channel);
        let (mut reader, mut writer) = (FrameReader::new(read), FrameWriter::new(write));
        let hello = HostHello::new(fresh_nonce()?, greeting.token.map(Token::new));
        let hello = if greeting.inspect { hello.inspecting() } else { hello };
        let answer =
            connect(&mut reader, &mut writer, hello).await.map_err(SessionError::Handshake)?;
        Ok((Self { reader, writer }, answer))
    }

    /// Sends a message.
    pub async fn send(&mut self, message: HostMessage) -> Result<(), SessionError> {
        let frame = message.into_frame().map_err(SessionError::Message)?;
        timeout(REPLY, self.writer.write(&frame))
            .await
            .map_err(|_| SessionError::Unexpected("it reads nothing".to_owned()))?
            .map_err(SessionError::Write)
    }

    /// The next message. Safe to cancel.
    pub async fn next(&mut self) -> Result<GuestMessage, SessionError> {
        let frame =
            self.reader.read().await.map_err(SessionError::Read)?.ok_or(SessionError::Closed)?;
        GuestMessage::from_frame(&frame).map_err(SessionError::Message)
    }

    /// Sends a request and waits for its acknowledgement, which `wanted` recognises.
    pub async fn request(
        &mut self,
        message: HostMessage,
        patience: Duration,
        wanted: impl Fn(&GuestMessage) -> bool,
    ) -> Result<(), SessionError> {
        self.ask(message, patience, |answer| wanted(answer).then_some(())).await
    }

    /// The same for an acknowledgement that says something.
    pub async fn ask<T>(
        &mut self,
        message: HostMessage,
        patience: Duration,
        take: impl Fn(&GuestMessage) -> Option<T>,
    ) -> Result<T, SessionError> {
        self.send(message).await?;
        let wait = async {
            loop {
                match self.next().await? {
                    GuestMessage::Error(report) => {
                        return Err(SessionError::Refused(report.message));
                    }
                    GuestMessage::Status(_) | GuestMessage::Ping(_) => {}
                    answer => {
                        return take(&answer)
                            .ok_or_else(|| SessionError::Unexpected(kind(&answer).to_owned()));
                    }
                }
            }
        };
        within(patience, wait).await
    }
}

async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, SessionError>>,
) -> Result<T, SessionError> {
    timeout(patience, work)
        .await
        .unwrap_or_else(|_| Err(SessionError::Unexpected("silence".to_owned())))
}

/// The name of a message, for errors; its content isn't repeated.
pub fn kind(message: &GuestMessage) -> &'static str {
    match message {
        GuestMessage::Hello(_) => "HELLO",
        GuestMessage::Ack(_) => "ACK",
        GuestMessage::Output(_) => "OUTPUT",
        GuestMessage::Status(_) => "STATUS",
        GuestMessage::Result(_) => "RESULT",
        GuestMessage::Error(_) => "ERROR",
        GuestMessage::Ping(_) => "PING",
    }
}

/// Random bytes of the kernel.
pub fn random<const N: usize>() -> Result<[u8; N], SessionError> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        let rest = bytes.get_mut(filled..).unwrap_or_default();
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(read) => filled += read,
            Err(rustix::io::Errno::INTR) => {}
            Err(why) => return Err(SessionError::Random(why.into())),
        }
    }
    Ok(bytes)
}

/// A time as the protocol has it.
pub fn unix_nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

/// A nonce that nobody has seen before.
pub fn fresh_nonce() -> Result<Nonce, SessionError> {
    Ok(Nonce::from_bytes(random()?))
}

#[cfg(test)]
mod tests {
    use agentvm_guest_agent::protocol::Inspection;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// Answers a HELLO as an agent in its golden state does, and says what it wrote.
    async fn honest(mut guest: DuplexStream) -> Vec<u8> {
        let frame = FrameReader::new(&mut guest).read().await.unwrap().unwrap();
        let HostMessage::Hello(asked) = HostMessage::from_frame(&frame).unwrap() else {
            panic!("no HELLO")
        };
        let inspection = asked
            .inspect
            .then(|| Inspection::new(Some(Nonce::from_bytes([7; 16])), vec![], vec![]));
        let answer = GuestHello {
            protocol: HostHello::PROTOCOL,
            challenge: asked.challenge,
            agent_version: String::new(),
            boot_id: String::new(),
            kernel: String::new(),
            machine: None,
            attempt: None,
            executed: false,
            inspection,
        };
        let (mut record, mut end) = duplex(1 << 16);
        FrameWriter::new(&mut record)
            .write(&GuestMessage::Hello(answer).into_frame().unwrap())
            .await
            .unwrap();
        drop(record);
        let mut bytes = Vec::new();
        end.read_to_end(&mut bytes).await.unwrap();
        guest.write_all(&bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn an_old_answer_that_is_replayed_is_none() {
        let (host, guest) = duplex(1 << 16);
        let greeting = Greeting { token: None, inspect: true };
        let (greeted, recorded) =
            tokio::join!(Session::greet(Box::new(host), greeting), honest(guest));
        assert!(greeted.unwrap().1.inspection.is_some());
        let (host, mut guest) = duplex(1 << 16);
        guest.write_all(&recorded).await.unwrap();
        guest.shutdown().await.unwrap();
        let why = Session::greet(Box::new(host), greeting).await.unwrap_err();
        assert!(matches!(why, SessionError::Handshake(ConnectError::Closed)), "{why}");
    }
}
