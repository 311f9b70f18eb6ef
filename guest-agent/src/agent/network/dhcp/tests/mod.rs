//! A client with a clock and a server of the test's.

mod client;
mod hostile;

use std::net::Ipv4Addr;
use std::time::Duration;

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};

use super::client::{Client, Effect};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 1, 7];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
const HOUR: u32 = 3600;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(1_700_000_000 + seconds)
}

/// The answer of a well-meaning server to `question`.
fn answer(question: &[u8], kind: DhcpMessageType) -> Vec<u8> {
    altered(question, kind, |_| {})
}

fn altered(
    question: &[u8],
    kind: DhcpMessageType,
    alter: impl FnOnce(&mut DhcpRepr<'_>),
) -> Vec<u8> {
    let asked = DhcpPacket::new_checked(question).unwrap();
    let mut message = DhcpRepr {
        message_type: kind,
        transaction_id: asked.transaction_id(),
        secs: 0,
        client_hardware_address: EthernetAddress(MAC),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: ADDRESS,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: Some(SERVER),
        subnet_mask: Some(MASK),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: true,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(SERVER),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: Some(HOUR),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[DhcpOption { kind: 43, data: b"whatever" }],
    };
    alter(&mut message);
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
    bytes
}

/// The one question among them.
fn question(effects: Vec<Effect>) -> Vec<u8> {
    let mut sent = effects.into_iter().filter_map(|effect| match effect {
        Effect::Send(bytes) => Some(bytes),
        Effect::Hold(_) | Effect::Lose(_) => None,
    });
    let bytes = sent.next().expect("a question");
    assert_eq!(sent.next(), None);
    bytes
}

/// One that has its address since `seconds(0)`, for an hour.
fn holder() -> Client {
    let mut client = Client::new(MAC, seconds(0), 5);
    let discover = question(client.step(seconds(0), 5, None));
    let request =
        question(client.step(seconds(0), 6, Some(&answer(&discover, DhcpMessageType::Offer))));
    let effects = client.step(seconds(0), 7, Some(&answer(&request, DhcpMessageType::Ack)));
    assert!(
        matches!(effects.as_slice(), [Effect::Hold(terms)] if terms.address == ADDRESS),
        "{effects:?}"
    );
    client
}
