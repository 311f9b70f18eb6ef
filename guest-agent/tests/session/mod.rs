//! The client of the crate over a unix socket, with a test's patience and a test's values.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::Path;
use std::time::Duration;

use agentvm_guest_agent::client::{AttemptEvent, Client, ClientError, Execution};
use agentvm_guest_agent::protocol::{
    Blob, Execute, GuestHello, GuestMessage, GuestNetwork, HostHello, HostMessage, Nonce,
    OutputChunk, OutputGap, Rehydrate, Resume, StreamId, Token, WireResult,
};
use tokio::net::UnixStream;

pub const DEADLINE: Duration = Duration::from_mins(2);

pub struct Session {
    pub client: Client<UnixStream>,
    pub hello: GuestHello,
}

/// The part of an attempt that has been received, over any number of connections.
#[derive(Debug, Default)]
pub struct Collected {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub result: Option<WireResult>,
    pub gap: Option<OutputGap>,
}

impl Session {
    pub async fn connect(socket: &Path, token: Option<&str>) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(socket).await.expect("connect to the agent's socket");
        let mut client = Client::new(stream);
        let greeting = client.hello(HostHello::new(nonce(), token.map(Token::new)));
        let answer = tokio::time::timeout(DEADLINE, greeting).await;
        let hello = answer.expect("the agent answers in time")?;
        Ok(Self { client, hello })
    }

    pub async fn say(&mut self, message: HostMessage) {
        self.client.send(message).await.expect("a message that is sent");
    }

    /// The next message; `None` at the end of the connection.
    pub async fn hear(&mut self) -> Option<GuestMessage> {
        let next = tokio::time::timeout(DEADLINE, self.client.next()).await;
        match next.expect("an answer in time") {
            Ok(message) => Some(message),
            Err(ClientError::Closed) => None,
            Err(why) => panic!("no good message: {why:?}"),
        }
    }

    pub async fn rehydrate(
        &mut self,
        nonce: &Nonce,
        token: &str,
        workspace: bool,
    ) -> Result<(), ClientError> {
        self.rehydrate_in(nonce, token, workspace, None).await
    }

    pub async fn rehydrate_in(
        &mut self,
        nonce: &Nonce,
        token: &str,
        workspace: bool,
        network: Option<GuestNetwork>,
    ) -> Result<(), ClientError> {
        let identity = Rehydrate {
            nonce: nonce.clone(),
            token: Token::new(token),
            hostname: "test-1".into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            entropy: Blob(vec![7; 64]),
            time_unix_nanos: 0,
            workspace,
            network,
        };
        self.client.rehydrate(identity, DEADLINE).await
    }

    /// Sends EXECUTE, which the agent must accept.
    pub async fn execute(&mut self, order: Execute) -> Execution<'_, UnixStream> {
        self.client.execute(order, DEADLINE).await.expect("EXECUTE is accepted")
    }

    pub async fn resume(&mut self, nonce: &Nonce, have: &Collected) -> Execution<'_, UnixStream> {
        let resume = Resume {
            nonce: nonce.clone(),
            stdout_offset: have.stdout.len() as u64,
            stderr_offset: have.stderr.len() as u64,
        };
        self.client.resume(resume).await.expect("RESUME is sent")
    }
}

impl Collected {
    /// Receives until the result, and acknowledges all of it.
    pub async fn whole(&mut self, execution: &mut Execution<'_, UnixStream>) {
        while self.result.is_none() {
            self.next(execution).await;
        }
        execution.acknowledge_result().await.expect("ACK is sent");
    }

    /// Receives until the program has written something to stdout.
    pub async fn first(&mut self, execution: &mut Execution<'_, UnixStream>) {
        while self.stdout.is_empty() {
            self.next(execution).await;
        }
    }

    /// Receives one event. Output is acknowledged, a result is not.
    pub async fn next(&mut self, execution: &mut Execution<'_, UnixStream>) {
        let event = tokio::time::timeout(DEADLINE, execution.next()).await;
        match event.expect("an event in time").expect("the connection lasts until the result") {
            AttemptEvent::Output(output) => {
                self.add(&output);
                let (stream, offset) = (output.stream, output.end());
                execution.acknowledge(stream, offset).await.expect("ACK is sent");
            }
            AttemptEvent::Result(result) => self.result = Some(result),
            AttemptEvent::Gap(gap) => {
                assert_eq!(gap.offset, self.stream(gap.stream).len() as u64, "after the beginning");
                assert_eq!(self.gap.replace(gap), None, "one gap at most");
                execution.acknowledge(gap.stream, gap.end()).await.expect("ACK is sent");
            }
            AttemptEvent::Alive => {}
        }
    }

    fn add(&mut self, output: &OutputChunk) {
        let gap = self.gap.filter(|gap| gap.stream == output.stream);
        let stream = self.stream(output.stream);
        let have = stream.len() as u64 + gap.map_or(0, |gap| gap.missing);
        assert_eq!(output.offset, have, "no gap without a word, and no repetition");
        stream.extend_from_slice(&output.data);
    }

    fn stream(&mut self, id: StreamId) -> &mut Vec<u8> {
        match id {
            StreamId::Stdout => &mut self.stdout,
            StreamId::Stderr => &mut self.stderr,
        }
    }
}

/// Sixteen random bytes, from the kernel.
pub fn nonce() -> Nonce {
    use std::io::Read as _;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .expect("read /dev/urandom");
    Nonce::from_bytes(bytes)
}

pub fn order(nonce: &Nonce, argv: &[&str]) -> Execute {
    let argv = argv.iter().map(ToString::to_string).collect();
    Execute::new(nonce.clone(), argv, 0, Blob(vec![9; 64]))
}
