//! The law of the decoder's work: it is linear in the bytes that came, whatever they are. The work
//! is counted in bytes that were checksummed, so a busy host changes nothing.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use agentvm_guest_agent::client::Client;
use agentvm_guest_agent::protocol::{
    Decoder, Frame, FrameType, HostHello, MAGIC, MAX_PAYLOAD, Nonce, VERSION, encode,
};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

/// 16 bytes that claim a megabyte each.
fn overlapping(headers: usize) -> Vec<u8> {
    claiming(MAX_PAYLOAD, headers)
}

/// 16 bytes that claim so much each: the checksum of each header is the magic of the next one.
/// A decoder that searches each broken frame for the next one checksums a megabyte for each.
fn claiming(claimed: usize, headers: usize) -> Vec<u8> {
    let length = u32::try_from(claimed).unwrap().to_be_bytes();
    let mut header = MAGIC.to_vec();
    header.extend([VERSION, FrameType::Status as u8, 0, 0, 0, 0, 0, 0]);
    header.extend(length);
    header.repeat(headers)
}

/// The work for these bytes, and the number of frames in them. They come in pieces, as a channel
/// gives them.
fn work(bytes: &[u8], piece: usize) -> (u64, usize) {
    let (mut decoder, mut frames) = (Decoder::new(), 0);
    for piece in bytes.chunks(piece) {
        decoder.feed(piece);
        while let Some(next) = decoder.next_frame() {
            frames += usize::from(next.is_ok());
        }
    }
    (decoder.checksummed(), frames)
}

fn linear(bytes: &[u8], piece: usize) -> bool {
    work(bytes, piece).0 <= (bytes.len() * Decoder::WORK_PER_BYTE) as u64
}

fn frame(payload: Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let frame = Frame { kind: FrameType::Status, flags: 0, stream: 0, payload };
    encode(&frame, &mut bytes).unwrap();
    bytes
}

#[test]
fn ten_times_the_input_costs_at_most_eleven_times_as_much() {
    for piece in [1000, 16 * 1024, 1 << 18] {
        let [one, ten] = [1, 10].map(|times| work(&claiming(1 << 14, times * 40_000), piece).0);
        assert!(one > 0 && ten <= 11 * one, "{one} bytes, then {ten}, in pieces of {piece}");
        let honest = [vec![7; MAX_PAYLOAD], vec![1, 2, 3]].concat();
        let honest = honest.chunks(100_000).flat_map(|part| frame(part.to_vec()));
        let honest: Vec<u8> = honest.collect();
        let [one, ten] = [1, 10].map(|times| work(&honest.repeat(times), piece).0);
        assert_eq!((one, ten), (honest.len() as u64, 10 * honest.len() as u64));
    }
}

#[test]
fn an_attack_does_not_cost_the_frames_that_come_after_it() {
    let good = frame(b"{}".to_vec());
    for headers in [1, 1000, 500_000] {
        // The claimed megabyte of the last header comes too.
        let bytes = [overlapping(headers), vec![0; MAX_PAYLOAD + 20], good.repeat(3)].concat();
        assert_eq!(work(&bytes, 16 * 1024).1, 3, "after {headers} headers");
    }
    // A long honest past gives no credit for an attack.
    let past = frame(vec![0; MAX_PAYLOAD]).repeat(50);
    let attack = overlapping(200_000);
    let spent = work(&[past.clone(), attack.clone()].concat(), 16 * 1024).0;
    assert!(spent <= (past.len() + 8 * attack.len() + 4 * MAX_PAYLOAD) as u64, "{spent}");
}

#[tokio::test]
async fn a_flood_in_the_handshake_holds_no_worker() {
    // One worker, so a loop that does not yield stops the clock and the other task too.
    let (host, mut guest) = tokio::io::duplex(1 << 20);
    let flood = tokio::spawn(async move {
        let bytes = overlapping(1 << 16);
        while guest.write_all(&bytes).await.is_ok() {}
    });
    let other = tokio::spawn(async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut client = Client::new(host);
    let greeting = client.hello(HostHello::new(Nonce::from_bytes([1; 16]), None));
    tokio::select! {
        biased;
        done = other => done.expect("it ran beside the flood"),
        answer = greeting => panic!("nobody answered: {answer:?}"),
    }
    drop(client);
    flood.await.expect("the flood ends with the channel");
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..500),
        (1usize..400).prop_map(overlapping),
        prop::collection::vec(any::<u8>(), 0..2000).prop_map(frame),
        // A header that claims so much, and its bytes, or some of them.
        (0usize..3000, 0usize..3000).prop_map(|(claimed, sent)| {
            let mut bytes = claiming(0, 1);
            let at = bytes.len() - 4;
            bytes[at..].copy_from_slice(&u32::try_from(claimed).unwrap().to_be_bytes());
            bytes.extend(vec![0; 4 + sent]);
            bytes
        }),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_work_is_linear_in_the_bytes(bytes in hostile(), piece in 1usize..5000) {
        prop_assert!(linear(&bytes, piece));
    }
}
