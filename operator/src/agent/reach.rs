//! From a machine's name to a session with its agent, however often it takes.

use std::time::Duration;

use agentvm_core::names::DomainName;
use agentvm_guest_agent::{
    client::Client,
    protocol::{GuestHello, HostHello, Token},
};
use agentvm_hypervisor::{Channel, Hypervisor};
use tokio::time::{Instant, sleep, timeout};

use super::{Session, SessionError, WakeError, fresh_nonce};
use crate::clock::Clock;

/// The pause between two tries to reach an agent that still boots.
const RETRY: Duration = Duration::from_millis(100);
/// The time that one HELLO may take before it is tried on a new connection.
const HELLO: Duration = Duration::from_secs(3);

/// The beginning of a session.
#[derive(Clone, Copy, Debug)]
struct Greeting<'a> {
    token: Option<&'a Token>,
    inspect: bool,
}

/// Tries until the agent answers or `patience` is over: the machine may still boot.
pub async fn reach(
    hv: &dyn Hypervisor,
    name: &DomainName,
    token: Option<&Token>,
    clock: &Clock,
    patience: Duration,
) -> Result<(Session, GuestHello), SessionError> {
    try_until(hv, name, Greeting { token, inspect: false }, clock, patience).await
}

/// Reaches an agent that has no token yet, and asks it for an inspection of its machine.
pub async fn inspect(
    hv: &dyn Hypervisor,
    name: &DomainName,
    clock: &Clock,
    patience: Duration,
) -> Result<(Session, GuestHello), SessionError> {
    try_until(hv, name, Greeting { token: None, inspect: true }, clock, patience).await
}

/// Lets a paused machine run and inspects it. The greeting waits in the channel when the machine
/// wakes, so that nothing is lost between the two. The last value is the moment when it ran.
pub async fn wake(
    hv: &dyn Hypervisor,
    name: &DomainName,
    clock: &Clock,
    patience: Duration,
) -> Result<(Session, GuestHello, Instant), WakeError> {
    let resumed =
        async { hv.resume(name).await.map(|()| clock.instant()).map_err(WakeError::Resume) };
    let greeted = async { inspect(hv, name, clock, patience).await.map_err(WakeError::Session) };
    let (running, (session, hello)) = tokio::try_join!(resumed, greeted)?;
    Ok((session, hello, running))
}

async fn try_until(
    hv: &dyn Hypervisor,
    name: &DomainName,
    greeting: Greeting<'_>,
    clock: &Clock,
    patience: Duration,
) -> Result<(Session, GuestHello), SessionError> {
    let deadline = clock.instant() + patience;
    let mut last = None;
    loop {
        let greeted = async {
            let channel = hv.connect(name).await.map_err(SessionError::Open)?;
            greet(channel, greeting).await
        };
        match timeout(HELLO, greeted).await {
            Ok(Ok(done)) => return Ok(done),
            // A refusal is an answer, and a machine that does not exist gives none.
            Ok(Err(why)) if why.is_final() => return Err(why),
            Ok(Err(why)) => last = Some(Box::new(why)),
            Err(_) => {}
        }
        if clock.instant() >= deadline {
            let (name, seconds) = (name.clone(), patience.as_secs());
            return Err(SessionError::NoAnswer { name, seconds, last });
        }
        sleep(RETRY).await;
    }
}

/// One handshake, with a fresh challenge: a recorded answer does not fit it.
async fn greet(
    channel: Channel,
    greeting: Greeting<'_>,
) -> Result<(Session, GuestHello), SessionError> {
    let hello = HostHello::new(fresh_nonce()?, greeting.token.cloned());
    let hello = if greeting.inspect { hello.inspecting() } else { hello };
    let mut session = Client::new(channel);
    let answer = session.hello(hello).await?;
    Ok((session, answer))
}

#[cfg(test)]
mod tests {
    use agentvm_guest_agent::client::ClientError;
    use agentvm_guest_agent::protocol::{
        FrameReader, GuestMessage, HostMessage, Inspection, Nonce, encode,
    };
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// Answers a HELLO like an agent in its golden state, and returns the bytes of the answer.
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
        let mut bytes = Vec::new();
        encode(&GuestMessage::Hello(answer).into_frame().unwrap(), &mut bytes).unwrap();
        guest.write_all(&bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn an_old_answer_that_is_replayed_is_none() {
        let (host, guest) = duplex(1 << 16);
        let greeting = Greeting { token: None, inspect: true };
        let (greeted, recorded) = tokio::join!(greet(Box::new(host), greeting), honest(guest));
        assert!(greeted.unwrap().1.inspection.is_some());
        let (host, mut guest) = duplex(1 << 16);
        guest.write_all(&recorded).await.unwrap();
        guest.shutdown().await.unwrap();
        let why = greet(Box::new(host), greeting).await.unwrap_err();
        assert!(matches!(why, SessionError::Client(ClientError::Closed)), "{why}");
    }
}
