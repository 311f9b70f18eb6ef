//! A host, as small as one can be: connects, gives a machine its identity, runs a command, collects what comes.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::Path;
use std::time::Duration;

use agentvm_guest_agent::protocol::{
    AttemptResult, Blob, ConnectError, Execute, FrameReader, FrameWriter, GuestAck, GuestHello,
    GuestMessage, GuestNetwork, HostAck, HostHello, HostMessage, Nonce, Rehydrate, Resume, RunAs,
    StreamId, Token, connect,
};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

pub const DEADLINE: Duration = Duration::from_mins(2);

pub struct Client {
    pub reader: FrameReader<OwnedReadHalf>,
    pub writer: FrameWriter<OwnedWriteHalf>,
    pub hello: GuestHello,
}

/// What has been received of an attempt, over any number of connections.
#[derive(Debug, Default)]
pub struct Collected {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub result: Option<AttemptResult>,
}

impl Client {
    pub async fn connect(socket: &Path, token: Option<&str>) -> Result<Self, ConnectError> {
        let (read, write) =
            UnixStream::connect(socket).await.expect("connect to the agent's socket").into_split();
        let (mut reader, mut writer) = (FrameReader::new(read), FrameWriter::new(write));
        let hello = HostHello::new(nonce(), token.map(Token::new));
        let answer = tokio::time::timeout(DEADLINE, connect(&mut reader, &mut writer, hello)).await;
        let hello = answer.expect("the agent answers in time")?;
        Ok(Self { reader, writer, hello })
    }

    pub async fn say(&mut self, message: HostMessage) {
        self.writer
            .write(&message.into_frame().expect("a message that fits"))
            .await
            .expect("write");
    }

    /// The next message; `None` at the end of the connection.
    pub async fn hear(&mut self) -> Option<GuestMessage> {
        let frame =
            tokio::time::timeout(DEADLINE, self.reader.read()).await.expect("an answer in time");
        frame
            .expect("a good frame")
            .map(|frame| GuestMessage::from_frame(&frame).expect("a good message"))
    }

    pub async fn rehydrate(&mut self, nonce: &Nonce, token: &str, workspace: bool) -> GuestMessage {
        self.rehydrate_in(nonce, token, workspace, None).await
    }

    pub async fn rehydrate_in(
        &mut self,
        nonce: &Nonce,
        token: &str,
        workspace: bool,
        network: Option<GuestNetwork>,
    ) -> GuestMessage {
        let order = Rehydrate {
            nonce: nonce.clone(),
            token: Token::new(token),
            hostname: "test-1".into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            entropy: Blob(vec![7; 64]),
            time_unix_nanos: 0,
            workspace,
            network,
        };
        self.say(HostMessage::Rehydrate(order)).await;
        self.hear().await.expect("an answer to REHYDRATE")
    }

    /// Sends EXECUTE and expects it to be accepted.
    pub async fn execute(&mut self, order: Execute) {
        let nonce = order.nonce.clone();
        self.say(HostMessage::Execute(order)).await;
        match self.hear().await {
            Some(GuestMessage::Ack(GuestAck::Execute { nonce: got })) => assert_eq!(got, nonce),
            other => panic!("EXECUTE was answered with {other:?}"),
        }
    }

    /// Receives until the result, acknowledging all of it.
    pub async fn collect(&mut self, into: &mut Collected) {
        while into.result.is_none() {
            let message = self.hear().await.expect("the connection lasts until the result");
            self.note(message, into).await;
        }
        let nonce = into.result.as_ref().expect("just received").nonce.clone();
        self.say(HostMessage::Ack(HostAck::Result { nonce })).await;
    }

    /// Takes note of one message, acknowledging output.
    pub async fn note(&mut self, message: GuestMessage, into: &mut Collected) {
        match message {
            GuestMessage::Output(output) => {
                let stream = if output.stream == StreamId::Stdout {
                    &mut into.stdout
                } else {
                    &mut into.stderr
                };
                assert_eq!(output.offset, stream.len() as u64, "no gap and no repetition");
                stream.extend(output.data);
                let offset = stream.len() as u64;
                self.say(HostMessage::Ack(HostAck::Output { stream: output.stream, offset })).await;
            }
            GuestMessage::Result(result) => into.result = Some(result),
            GuestMessage::Status(_) | GuestMessage::Ack(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }

    pub async fn resume(&mut self, nonce: &Nonce, have: &Collected) {
        self.say(HostMessage::Resume(Resume {
            nonce: nonce.clone(),
            stdout_offset: have.stdout.len() as u64,
            stderr_offset: have.stderr.len() as u64,
        }))
        .await;
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
    Execute {
        nonce: nonce.clone(),
        argv: argv.iter().map(ToString::to_string).collect(),
        env: vec![],
        cwd: None,
        run_as: RunAs::Agent,
        stdin: None,
        timeout_millis: 60_000,
        grace_millis: 5000,
        max_stdout_bytes: 1 << 20,
        max_stderr_bytes: 1 << 20,
        max_processes: 0,
        time_unix_nanos: 0,
        entropy: Blob(vec![9; 64]),
    }
}
