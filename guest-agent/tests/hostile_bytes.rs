//! The fuzz target's property over a fixed sequence of mutated frames. So every build runs it
//! without a fuzzer.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod hostile;

use std::net::{Ipv4Addr, Ipv6Addr};

use agentvm_guest_agent::protocol::{
    Blob, Execute, FileChunk, GuestAck, GuestIpv6, GuestLease, GuestMessage, GuestNetwork,
    HostHello, HostMessage, Inspection, Mac, Nonce, OutputChunk, Rehydrate, RunAs, Stop, StreamId,
    Token, encode,
};

/// xorshift: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).expect("48 bits")
    }
}

/// One of each kind that has structure.
fn seed() -> Vec<u8> {
    let nonce = Nonce::from_bytes([0xab; 16]);
    let execute = Execute {
        nonce: nonce.clone(),
        argv: vec!["a".into()],
        env: vec![],
        cwd: None,
        run_as: RunAs::Agent,
        project: false,
        stdin: Some(Blob(b"AGVM".to_vec())),
        timeout_millis: 1,
        grace_millis: 1,
        max_stdout_bytes: 1,
        max_stderr_bytes: 1,
        end_bytes: 0,
        max_processes: 0,
        time_unix_nanos: 1,
        entropy: Blob(vec![]),
    };
    let mac = Mac::new([0x52, 0x54, 0, 1, 2, 3]);
    let network = GuestNetwork {
        mac,
        address: Ipv4Addr::new(203, 0, 113, 7),
        prefix: 24,
        gateway: Ipv4Addr::new(203, 0, 113, 1),
        gateway_mac: mac,
        resolvers: vec![Ipv4Addr::new(203, 0, 113, 53)],
        ipv6: Some(GuestIpv6 {
            address: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7),
            prefix: 64,
            gateway: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
        }),
    };
    let rehydrate = Rehydrate {
        nonce: nonce.clone(),
        token: Token::new("AGVM"),
        hostname: "h".into(),
        machine_id: "0".repeat(32),
        entropy: Blob(vec![0; 8]),
        time_unix_nanos: 1,
        workspace: true,
        network: Some(network),
    };
    let lease = GuestLease { mac, resolvers: vec![], time_unix_nanos: 1, patience_millis: 1000 };
    let chunk =
        FileChunk { path: "p".into(), mode: 0o644, size: 4, offset: 0, data: b"AGVM".to_vec() };
    let output = OutputChunk { stream: StreamId::Stdout, offset: 7, data: b"AGVM\x01".to_vec() };
    let inspection = Some(Inspection::new(
        Some(nonce.clone()),
        vec!["init<".into()],
        vec!["/ ext4 /dev/vda".into()],
    ));
    let frames = [
        GuestMessage::Ack(GuestAck::Quiesce { inspection }).into_frame(),
        HostMessage::Hello(HostHello::new(nonce.clone(), None).inspecting()).into_frame(),
        HostMessage::Rehydrate(rehydrate).into_frame(),
        HostMessage::Lease(lease).into_frame(),
        HostMessage::Warm.into_frame(),
        HostMessage::Execute(execute).into_frame(),
        HostMessage::File(chunk).into_frame(),
        HostMessage::Stop(Stop::Attempt { nonce, grace_millis: 1 }).into_frame(),
        GuestMessage::Output(output).into_frame(),
    ];
    let mut bytes = vec![63];
    for frame in frames {
        encode(&frame.expect("a message that fits"), &mut bytes).expect("a frame that fits");
    }
    bytes
}

#[test]
fn unharmed_frames_are_all_decoded() {
    assert_eq!(hostile::decode_all(&seed()), 9);
}

#[test]
fn mutated_frames_neither_panic_nor_change() {
    let (seed, mut numbers) = (seed(), Numbers(0x9e37_79b9_7f4a_7c15));
    let mut decoded = 0;
    for _ in 0..20_000 {
        let mut bytes = seed.clone();
        for _ in 0..=numbers.next() % 4 {
            let at = numbers.next() % bytes.len();
            match numbers.next() % 4 {
                0 => bytes[at] = u8::try_from(numbers.next() % 256).expect("a byte"),
                1 => bytes.insert(at, u8::try_from(numbers.next() % 256).expect("a byte")),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                // Not to nothing: there is always a byte to change.
                _ => bytes.truncate(at.max(1)),
            }
        }
        decoded += hostile::decode_all(&bytes);
    }
    // Damage costs the damaged: on the whole most frames come through.
    assert!(decoded > 20_000, "{decoded}");
}

#[test]
fn noise_is_survived() {
    let mut numbers = Numbers(42);
    for length in 0..2000 {
        let noise: Vec<u8> =
            (0..length).map(|_| u8::try_from(numbers.next() % 256).expect("a byte")).collect();
        hostile::decode_all(&noise);
    }
}
