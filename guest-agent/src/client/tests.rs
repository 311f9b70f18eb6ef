//! The client against an agent that is played by hand, over a stream in memory.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

use super::{AttemptEvent, Client, ClientError};
use crate::protocol::{
    CHUNK, Decoder, ErrorCode, ErrorReport, FrameWriter, GuestAck, GuestHello, GuestMessage,
    HostHello, HostMessage, Inspection, Nonce, Status,
};

const PATIENCE: Duration = Duration::from_secs(5);

fn nonce(n: u8) -> Nonce {
    Nonce::from_bytes([n; 16])
}

/// The agent's end of a channel.
struct Played(DuplexStream);

impl Played {
    fn new() -> (Client<DuplexStream>, Self) {
        let (host, guest) = duplex(1 << 20);
        (Client::new(host), Self(guest))
    }

    async fn say(&mut self, message: GuestMessage) {
        let frame = message.into_frame().unwrap();
        FrameWriter::new(&mut self.0).write(&frame).await.unwrap();
    }

    async fn refuse(&mut self, challenge: Option<Nonce>) {
        let (code, message) = (ErrorCode::Busy, "not now".into());
        let report = ErrorReport { code, message, nonce: None, challenge };
        self.say(GuestMessage::Error(report)).await;
    }

    /// The messages that the client has sent so far and in all, once it is gone.
    async fn heard(mut self, client: Client<DuplexStream>) -> Vec<HostMessage> {
        drop(client);
        let (mut bytes, mut decoder, mut messages) = (Vec::new(), Decoder::new(), Vec::new());
        self.0.read_to_end(&mut bytes).await.unwrap();
        decoder.feed(&bytes);
        while let Some(frame) = decoder.next_frame() {
            messages.push(HostMessage::from_frame(&frame.unwrap()).unwrap());
        }
        messages
    }
}

fn greeting() -> GuestHello {
    GuestHello {
        protocol: HostHello::PROTOCOL,
        challenge: nonce(1),
        agent_version: String::new(),
        boot_id: String::new(),
        kernel: String::new(),
        machine: None,
        attempt: None,
        executed: false,
        inspection: None,
    }
}

#[tokio::test]
async fn only_a_refusal_of_this_very_greeting_refuses_the_session() {
    let (mut client, mut agent) = Played::new();
    agent.refuse(None).await;
    agent.refuse(Some(nonce(1))).await;
    agent.refuse(Some(nonce(2))).await;
    let why = client.hello(HostHello::new(nonce(2), None)).await.unwrap_err();
    assert!(
        matches!(&why, ClientError::SessionRefused(report) if report.challenge == Some(nonce(2)))
    );
    assert_eq!(why.to_string(), "the agent refused the session: not now");
    assert!(why.is_answer());
}

#[tokio::test]
async fn a_request_waits_over_news_and_takes_only_its_own_acknowledgement() {
    let (mut client, mut agent) = Played::new();
    agent.say(GuestMessage::Status(Status::default())).await;
    agent.say(GuestMessage::Ack(GuestAck::Warm)).await;
    client.warm(PATIENCE).await.unwrap();
    agent.say(GuestMessage::Ack(GuestAck::PowerOff)).await;
    let why = client.warm(PATIENCE).await.unwrap_err();
    assert!(matches!(why, ClientError::Unexpected("ACK")), "{why}");
    agent.refuse(None).await;
    let why = client.warm(PATIENCE).await.unwrap_err();
    assert_eq!(why.to_string(), "the agent refused: not now");
    let why = client.warm(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(why, ClientError::Silent) && !why.is_answer(), "{why}");
}

#[tokio::test]
async fn files_go_in_pieces_and_an_empty_one_in_one() {
    for (size, pieces) in [(0, 1), (1, 1), (CHUNK, 1), (CHUNK + 1, 2), (3 * CHUNK, 3)] {
        let (mut client, mut agent) = Played::new();
        for piece in 1..=pieces {
            let offset = (piece * CHUNK).min(size) as u64;
            agent.say(GuestMessage::Ack(GuestAck::File { path: "a".to_owned(), offset })).await;
        }
        let content: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
        client.send_file("a", 0o400, &content, PATIENCE).await.unwrap();
        let mut sent = Vec::new();
        for message in agent.heard(client).await {
            let HostMessage::File(chunk) = message else { panic!("{message:?}") };
            let start = sent.len() as u64;
            assert_eq!((chunk.offset, chunk.size, chunk.mode), (start, size as u64, 0o400));
            sent.extend(chunk.data);
        }
        assert_eq!(sent, content);
    }
}

#[tokio::test]
async fn a_quiesce_without_the_new_nonce_is_not_believed() {
    let (mut client, mut agent) = Played::new();
    for golden in [Some(nonce(4)), Some(nonce(5)), None] {
        let inspection = Some(Inspection::new(golden, Vec::new(), Vec::new()));
        agent.say(GuestMessage::Ack(GuestAck::Quiesce { inspection })).await;
    }
    agent.say(GuestMessage::Ack(GuestAck::Quiesce { inspection: None })).await;
    assert_eq!(client.quiesce(nonce(4), PATIENCE).await.unwrap().golden, Some(nonce(4)));
    for _ in 0..3 {
        let why = client.quiesce(nonce(4), PATIENCE).await.unwrap_err();
        assert!(matches!(why, ClientError::Unexpected(_)), "{why}");
    }
}

#[tokio::test]
async fn an_execution_tells_life_from_news_and_takes_no_greeting() {
    let (mut client, mut agent) = Played::new();
    agent.say(GuestMessage::Status(Status::default())).await;
    agent.say(GuestMessage::Ack(GuestAck::Execute { nonce: nonce(1) })).await;
    let mut execution = client.follow(nonce(1));
    for _ in 0..2 {
        assert!(matches!(execution.next().await, Ok(AttemptEvent::Alive)));
    }
    agent.say(GuestMessage::Hello(greeting())).await;
    assert!(matches!(execution.next().await, Err(ClientError::Unexpected("HELLO"))));
    agent.refuse(None).await;
    assert!(matches!(execution.next().await, Err(ClientError::Refused(_))));
}
