//! An agent that was taken over: recorded answers prove nothing, and invented ones are bounded.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use agentvm_guest_agent::client::{Client, ClientError};
use agentvm_guest_agent::protocol::{
    GuestHello, GuestMessage, HostHello, HostMessage, Inspection, Nonce, encode,
};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

fn challenge(n: u8) -> Nonce {
    Nonce::from_bytes([n; 16])
}

fn honest(challenge: Nonce) -> GuestHello {
    GuestHello {
        protocol: HostHello::PROTOCOL,
        challenge,
        agent_version: "1".to_owned(),
        boot_id: String::new(),
        kernel: String::new(),
        machine: None,
        attempt: None,
        executed: false,
        inspection: Some(Inspection::new(
            Some(Nonce::from_bytes([9; 16])),
            vec!["init<".to_owned()],
            Vec::new(),
        )),
    }
}

fn bytes_of(hello: GuestHello) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&GuestMessage::Hello(hello).into_frame().unwrap(), &mut bytes).unwrap();
    bytes
}

async fn greet(channel: DuplexStream, hello: HostHello) -> Result<GuestHello, ClientError> {
    Client::new(channel).hello(hello).await
}

/// An agent that answers every request with equal bytes, and hangs up.
async fn replay(mut channel: DuplexStream, answer: Vec<u8>) {
    let mut asked = [0; 20];
    channel.read_exact(&mut asked).await.expect("a greeting");
    channel.write_all(&answer).await.expect("an answer");
}

#[tokio::test]
async fn an_old_answer_is_no_answer() {
    let recorded = bytes_of(honest(challenge(1)));
    for (asked, believed) in [(challenge(1), true), (challenge(2), false)] {
        let (host, guest) = tokio::io::duplex(1 << 16);
        let liar = replay(guest, recorded.clone());
        let (answer, ()) =
            tokio::join!(greet(host, HostHello::new(asked, None).inspecting()), liar);
        match answer {
            Ok(hello) => assert!(believed && hello.inspection.is_some()),
            Err(why) => assert!(!believed && matches!(why, ClientError::Closed), "{why:?}"),
        }
    }
}

#[tokio::test]
async fn old_answers_without_end_keep_nobody_waiting_longer_than_they_would() {
    let recorded = bytes_of(honest(challenge(1)));
    let (host, mut guest) = tokio::io::duplex(1 << 16);
    let flood = tokio::spawn(async move { while guest.write_all(&recorded).await.is_ok() {} });
    let greeting = greet(host, HostHello::new(challenge(2), None));
    let answer = tokio::time::timeout(Duration::from_millis(300), greeting).await;
    assert!(answer.is_err(), "it is the caller's deadline that ends it: {answer:?}");
    flood.await.expect("the flood ends with the channel");
}

#[test]
fn what_an_inspection_holds_is_bounded_on_both_sides() {
    let many = |n: usize| (0..n).map(|i| format!("p{i:04}<init")).collect::<Vec<_>>();
    let made = Inspection::new(None, many(1000), vec!["é".repeat(400)]);
    assert_eq!(made.processes.len(), Inspection::MAX_ENTRIES);
    assert_eq!(made.processes.last().unwrap(), "and 745 more");
    assert!(made.mounts[0].len() <= Inspection::MAX_ENTRY);
    assert_eq!(
        Inspection::new(None, many(256), Vec::new()).processes.len(),
        256,
        "all of them fit"
    );
    let forged = Inspection { golden: None, processes: many(257), mounts: Vec::new() };
    let frame =
        GuestMessage::Hello(GuestHello { inspection: Some(forged), ..honest(challenge(1)) })
            .into_frame();
    assert!(GuestMessage::from_frame(&frame.unwrap()).is_err());
    let forged = Inspection { golden: None, processes: Vec::new(), mounts: vec!["m".repeat(257)] };
    let frame =
        GuestMessage::Hello(GuestHello { inspection: Some(forged), ..honest(challenge(1)) })
            .into_frame();
    assert!(GuestMessage::from_frame(&frame.unwrap()).is_err());
}

#[test]
fn who_does_not_ask_is_not_told() {
    let plain = HostMessage::Hello(HostHello::new(challenge(1), None)).into_frame().unwrap();
    assert!(
        !String::from_utf8(plain.payload.clone()).unwrap().contains("inspect"),
        "as older agents know it"
    );
    assert!(
        matches!(HostMessage::from_frame(&plain), Ok(HostMessage::Hello(hello)) if !hello.inspect)
    );
    let old = br#"{"scope":"quiesce"}"#.to_vec();
    let frame = agentvm_guest_agent::protocol::Frame {
        kind: agentvm_guest_agent::protocol::FrameType::Stop,
        flags: 0,
        stream: 0,
        payload: old,
    };
    assert!(HostMessage::from_frame(&frame).is_ok(), "as older hosts say it");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_inspection_comes_back_as_it_went(
        golden in prop::option::of(any::<[u8; 16]>()),
        processes in prop::collection::vec(".{0,300}", 0..8),
        mounts in prop::collection::vec("[a-z/]{0,8}", 0..300),
    ) {
        let inspection = Inspection::new(golden.map(Nonce::from_bytes), processes, mounts);
        let hello = GuestMessage::Hello(GuestHello { inspection: Some(inspection),
            ..honest(challenge(1)) });
        prop_assert_eq!(GuestMessage::from_frame(&hello.clone().into_frame().unwrap()).unwrap(),
            hello);
    }
}
