//! The property that must hold for any bytes. The fuzz target uses it, and the test that runs it on
//! every build.

use agentvm_guest_agent::protocol::{Decoder, Frame, GuestMessage, HostMessage, encode};

/// Decodes bytes as both sides would. The first byte determines the cuts.
pub fn decode_all(bytes: &[u8]) -> usize {
    let Some((cut, bytes)) = bytes.split_first() else { return 0 };
    let mut decoder = Decoder::new();
    let mut frames = 0;
    for piece in bytes.chunks(usize::from(*cut) + 1) {
        decoder.feed(piece);
        while let Some(next) = decoder.next_frame() {
            if let Ok(frame) = next {
                frames += 1;
                check(&frame);
            }
        }
    }
    frames
}

fn check(frame: &Frame) {
    let mut bytes = Vec::new();
    encode(frame, &mut bytes).expect("what was decoded is within bounds");
    let mut decoder = Decoder::new();
    decoder.feed(&bytes);
    assert_eq!(decoder.next_frame(), Some(Ok(frame.clone())));
    if let Ok(message) = HostMessage::from_frame(frame) {
        let again =
            message.clone().into_frame().expect("a message that came in a frame fits into one");
        assert_eq!(HostMessage::from_frame(&again).expect("decoded once already"), message);
    }
    if let Ok(message) = GuestMessage::from_frame(frame) {
        let again =
            message.clone().into_frame().expect("a message that came in a frame fits into one");
        assert_eq!(GuestMessage::from_frame(&again).expect("decoded once already"), message);
    }
}
