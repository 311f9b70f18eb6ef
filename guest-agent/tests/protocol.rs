//! The laws of the protocol: every message comes out as it went in, wherever the bytes are cut;
//! damage costs only the damaged frame; no bytes cause a panic; the replay buffer behaves like the
//! whole stream.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::Ipv4Addr;

use agentvm_guest_agent::protocol::{
    Blob, Decoder, EnvVar, Execute, FileChunk, Frame, FrameError, FrameType, GuestIpv6,
    GuestMessage, GuestNetwork, HEADER_LEN, HostMessage, MAX_PAYLOAD, Mac, MessageError, Nonce,
    OutputChunk, Rehydrate, Replay, ReplayError, RunAs, Secret, StreamId, Token, encode,
};
use proptest::prelude::*;

fn any_frame() -> impl Strategy<Value = Frame> {
    let kinds = prop::sample::select(FrameType::ALL.to_vec());
    (kinds, any::<u16>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(kind, flags, stream, payload)| Frame { kind, flags, stream, payload })
}

fn rehydrate() -> Rehydrate {
    Rehydrate {
        nonce: Nonce::from_bytes([7; 16]),
        token: Token::new("token"),
        hostname: "machine".into(),
        machine_id: "0".repeat(32),
        entropy: Blob(vec![1, 2, 3]),
        time_unix_nanos: 5,
        workspace: false,
        network: None,
    }
}

fn bytes_of(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        encode(frame, &mut bytes).unwrap();
    }
    bytes
}

fn drain(decoder: &mut Decoder) -> (Vec<Frame>, Vec<FrameError>) {
    let (mut frames, mut errors) = (Vec::new(), Vec::new());
    while let Some(next) = decoder.next_frame() {
        match next {
            Ok(frame) => frames.push(frame),
            Err(why) => errors.push(why),
        }
    }
    (frames, errors)
}

proptest! {
    #[test]
    fn frames_survive_any_cut(frames in prop::collection::vec(any_frame(), 0..6),
        cut in 1usize..64) {
        let mut decoder = Decoder::new();
        let mut seen = Vec::new();
        for piece in bytes_of(&frames).chunks(cut) {
            decoder.feed(piece);
            let (got, errors) = drain(&mut decoder);
            prop_assert!(errors.is_empty());
            seen.extend(got);
        }
        prop_assert_eq!(seen, frames);
        prop_assert!(!decoder.is_partial());
    }

    #[test]
    fn an_abandoned_frame_is_skipped(old in any_frame(), new in any_frame(),
        keep in any::<prop::sample::Index>()) {
        let bytes = bytes_of(std::slice::from_ref(&old));
        let mut decoder = Decoder::new();
        decoder.feed(&bytes[..keep.index(bytes.len())]);
        prop_assert_eq!(drain(&mut decoder).0, vec![]);
        decoder.skip_partial();
        decoder.feed(&bytes_of(std::slice::from_ref(&new)));
        let mut seen = drain(&mut decoder).0;
        // The abandoned payload may look like the beginning of a frame; each give-up moves on.
        while seen.is_empty() && decoder.is_partial() {
            decoder.skip_partial();
            seen = drain(&mut decoder).0;
        }
        prop_assert_eq!(seen, vec![new]);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut decoder = Decoder::new();
        decoder.feed(&bytes);
        for frame in drain(&mut decoder).0 {
            let _ = HostMessage::from_frame(&frame);
            let _ = GuestMessage::from_frame(&frame);
        }
    }

    #[test]
    fn any_payload_is_decoded_or_refused(frame in any_frame()) {
        if let Ok(message) = HostMessage::from_frame(&frame) {
            let again = HostMessage::from_frame(&message.clone().into_frame().unwrap()).unwrap();
            prop_assert_eq!(again, message);
        }
        if let Ok(message) = GuestMessage::from_frame(&frame) {
            let again = GuestMessage::from_frame(&message.clone().into_frame().unwrap()).unwrap();
            prop_assert_eq!(again, message);
        }
    }

    #[test]
    fn binary_messages_round_trip(
        path in "[a-zé/]{0,40}", mode: u32, size: u64, offset in 0u64..u64::MAX / 2,
            data in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let file = HostMessage::File(FileChunk { path, mode, size, offset, data: data.clone() });
        prop_assert_eq!(HostMessage::from_frame(&file.clone().into_frame().unwrap()).unwrap(),
            file);
        let output = GuestMessage::Output(OutputChunk { stream: StreamId::Stderr, offset, data });
        prop_assert_eq!(GuestMessage::from_frame(&output.clone().into_frame().unwrap()).unwrap(),
            output);
    }

    #[test]
    fn execute_round_trips(argv in prop::collection::vec(".*", 1..4), value in ".*",
        stdin in prop::option::of(prop::collection::vec(any::<u8>(), 0..100))) {
        let execute = HostMessage::Execute(Execute {
            nonce: Nonce::from_bytes([7; 16]),
            argv,
            env: vec![EnvVar { name: "NAME".into(), value: Secret::new(value) }],
            cwd: None,
            run_as: RunAs::Root,
            project: true,
            stdin: stdin.map(Blob),
            timeout_millis: 1,
            grace_millis: 2,
            max_stdout_bytes: 3,
            max_stderr_bytes: 4,
            end_bytes: 0,
            max_processes: 7,
            time_unix_nanos: 5,
            entropy: Blob(vec![1, 2, 3]),
        });
        prop_assert_eq!(HostMessage::from_frame(&execute.clone().into_frame().unwrap()).unwrap(),
            execute);
    }

    #[test]
    fn rehydrate_round_trips_with_and_without_a_network(
        mac: [u8; 6], address: u32, prefix in 0u8..=32, gateway: u32,
            resolvers in prop::collection::vec(any::<u32>(), 0..4), given: bool,
        six: Option<(u128, u8)>,
    ) {
        let gateway_mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
        let network = Some(Mac::new(mac)).filter(|mac| given && mac.is_unicast())
            .map(|mac| GuestNetwork {
            mac,
            address: address.into(),
            prefix,
            gateway: gateway.into(),
            gateway_mac,
            resolvers: resolvers.into_iter().map(Ipv4Addr::from).collect(),
            ipv6: six.map(|(address, prefix)| GuestIpv6 { address: address.into(), prefix,
                gateway: address.into() }),
        });
        let order = HostMessage::Rehydrate(Rehydrate { network, ..rehydrate() });
        prop_assert_eq!(HostMessage::from_frame(&order.clone().into_frame().unwrap()).unwrap(),
            order);
    }

    #[test]
    fn a_mac_is_what_its_text_says(bytes: [u8; 6], text in "[0-9a-f:]{0,20}") {
        let mac = Mac::new(bytes);
        prop_assert_eq!(mac.to_string().parse(), Ok(mac));
        prop_assert_eq!(mac.to_string().to_uppercase().parse(), Ok(mac));
        let read = lease_of(&mac.to_string());
        match &read {
            Ok(HostMessage::Lease(lease)) => prop_assert_eq!(lease.mac, mac),
            _ => prop_assert!(bytes[0] & 1 == 1 || bytes == [0; 6], "{read:?}"),
        }
        if let Ok(mac) = text.parse::<Mac>() {
            prop_assert_eq!(mac.to_string(), text);
        }
    }

    #[test]
    fn replay_is_a_window_on_the_stream(steps in prop::collection::vec((any::<bool>(), 0usize..40),
        0..60), capacity in 1usize..64) {
        let mut replay = Replay::new(capacity);
        let mut stream: Vec<u8> = Vec::new();
        for (push, amount) in steps {
            if push {
                let bytes: Vec<u8> = (0..amount).map(|n| u8::try_from((stream.len() + n) % 251)
                    .unwrap()).collect();
                let taken = replay.push(&bytes);
                prop_assert!(taken == amount || replay.free() == 0);
                stream.extend(&bytes[..taken]);
            } else {
                let to = replay.first() + amount as u64;
                prop_assert_eq!(replay.ack(to).is_ok(), to <= stream.len() as u64);
            }
            let first = usize::try_from(replay.first()).unwrap();
            prop_assert_eq!(replay.end(), stream.len() as u64);
            prop_assert!(stream.len() - first <= capacity);
            prop_assert_eq!(replay.read_from(replay.first(), usize::MAX).unwrap(),
                &stream[first..]);
        }
        prop_assert!(replay.read_from(replay.end() + 1, 1).is_err());
    }
}

proptest! {
    // A megabyte of padding a case: fewer cases.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn one_bad_byte_costs_one_frame(
        before in any_frame(), hit in any_frame(), after in any_frame(),
            at in any::<prop::sample::Index>(), flip in 1u8..=255,
    ) {
        let mut broken = bytes_of(std::slice::from_ref(&hit));
        let at = at.index(broken.len());
        broken[at] ^= flip;
        let mut bytes = bytes_of(std::slice::from_ref(&before));
        bytes.extend(broken);
        bytes.extend(bytes_of(std::slice::from_ref(&after)));
        // A longer length may swallow the next frames until enough bytes have come: these do.
        bytes.resize(bytes.len() + MAX_PAYLOAD + HEADER_LEN, 0);
        let mut decoder = Decoder::new();
        decoder.feed(&bytes);
        let (frames, errors) = drain(&mut decoder);
        prop_assert!(!errors.is_empty());
        prop_assert_eq!(frames, vec![before, after]);
    }
}

#[test]
fn a_length_above_the_limit_is_refused_before_its_bytes_come() {
    let mut bytes =
        bytes_of(&[Frame { kind: FrameType::Ping, flags: 0, stream: 0, payload: vec![] }]);
    bytes[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
    let mut decoder = Decoder::new();
    decoder.feed(&bytes);
    assert_eq!(decoder.next_frame(), Some(Err(FrameError::TooLong(u32::MAX as usize))));
    let big =
        Frame { kind: FrameType::Ping, flags: 0, stream: 0, payload: vec![0; MAX_PAYLOAD + 1] };
    assert_eq!(encode(&big, &mut Vec::new()), Err(FrameError::TooLong(MAX_PAYLOAD + 1)));
}

#[test]
fn acknowledged_bytes_cannot_be_read_again() {
    let mut replay = Replay::new(8);
    assert_eq!(replay.push(b"0123456789"), 8);
    replay.ack(3).unwrap();
    assert_eq!(replay.read_from(2, 1), Err(ReplayError::Forgotten { offset: 2, first: 3 }));
    assert_eq!(replay.read_from(3, 2).unwrap(), b"34");
    assert_eq!(replay.push(b"89ab"), 3);
    assert_eq!(replay.ack(12), Err(ReplayError::BeyondEnd { offset: 12, end: 11 }));
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let (secret, token) = (Secret::new("hunter2"), Token::new("hunter2"));
    let shown = format!("{secret:?} {token:?} {:?}", Blob(b"hunter2".to_vec()));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn an_output_offset_cannot_overflow() {
    let frame = Frame {
        kind: FrameType::Output,
        flags: 0,
        stream: 1,
        payload: [vec![0xff; 8], vec![1]].concat(),
    };
    assert!(GuestMessage::from_frame(&frame).is_err());
}

const OURS: &str = "52:54:00:01:02:03";

fn message(kind: FrameType, json: String) -> Result<HostMessage, MessageError> {
    let frame = Frame { kind, flags: 0, stream: 0, payload: json.into_bytes() };
    HostMessage::from_frame(&frame)
}

/// A LEASE for a device of this MAC address, as it arrives.
fn lease_of(mac: &str) -> Result<HostMessage, MessageError> {
    let json = format!(r#"{{"mac":"{mac}","time_unix_nanos":0,"patience_millis":1}}"#);
    message(FrameType::Lease, json)
}

/// A REHYDRATE for a device and a gateway of these MAC addresses, as it arrives.
fn network_of(mac: &str, gateway_mac: &str) -> Result<HostMessage, MessageError> {
    let json = format!(
        r#"{{"nonce":"07070707070707070707070707070707","token":"t","hostname":"h",
            "machine_id":"m","entropy":"","time_unix_nanos":1,"workspace":true,
            "network":{{"mac":"{mac}","address":"192.0.2.2","prefix":24,
            "gateway":"192.0.2.1","gateway_mac":"{gateway_mac}"}}}}"#
    );
    message(FrameType::Rehydrate, json)
}

#[test]
fn macs_of_groups_of_nobody_and_of_other_forms_are_refused() {
    for text in [
        "",
        "01:00:5e:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "52:54:0:1:2:3",
        "52:54:00:01:02",
        "52-54-00-01-02-03",
        "+2:54:00:01:02:03",
        "52:54:00:01:02:03:04",
        " 52:54:00:01:02:03",
    ] {
        assert!(lease_of(text).is_err(), "{text:?}");
        assert!(network_of(text, OURS).is_err() && network_of(OURS, text).is_err(), "{text:?}");
    }
}

#[test]
fn macs_of_single_devices_are_read() {
    assert!(lease_of(OURS).is_ok() && network_of(OURS, OURS).is_ok());
}

#[test]
fn an_order_without_a_network_is_as_it_always_was() {
    let frame = HostMessage::Rehydrate(rehydrate()).into_frame().unwrap();
    assert!(
        !String::from_utf8(frame.payload).unwrap().contains("network"),
        "an old agent sees nothing new"
    );
    let payload = br#"{"nonce":"07070707070707070707070707070707","token":"t","hostname":"h","machine_id":"m","entropy":"","time_unix_nanos":1,"workspace":true}"#.to_vec();
    let frame = Frame { kind: FrameType::Rehydrate, flags: 0, stream: 0, payload };
    assert!(matches!(HostMessage::from_frame(&frame),
            Ok(HostMessage::Rehydrate(order)) if order.network.is_none()));
}

#[test]
fn unknown_fields_and_error_codes_of_a_newer_side_are_read() {
    let payload = br#"{"id": 7, "colour": "blue"}"#.to_vec();
    let frame = Frame { kind: FrameType::Ping, flags: 9, stream: 0, payload };
    assert!(matches!(HostMessage::from_frame(&frame), Ok(HostMessage::Ping(ping)) if ping.id == 7));
    let payload = br#"{"code": "out_of_cheese", "message": "?"}"#.to_vec();
    let frame = Frame { kind: FrameType::Error, flags: 0, stream: 0, payload };
    assert!(GuestMessage::from_frame(&frame).is_ok());
}
