//! `nfnetlink_log`, as far as it is spoken here: one message to the kernel, and what comes back.
//!
//! Written out because the crate for it keeps the kind of a frame to itself and knows no VLAN tags. No input makes this panic, allocate
//! or loop (`tests.rs` holds it to that).

use crate::firewall::netlink::raw::{self, Message, Request, attributes, first};

/// Bytes of a packet that are copied: all headers that are looked at, and little of what is private.
pub const COPIED: u32 = 96;

const PACKET: u16 = 4 << 8;
const CONFIG: u16 = 4 << 8 | 1;

/// Something that the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// The answer to what was sent; 0 is yes, anything else the error's number.
    Answer(i32),
    Packet(Logged<'a>),
}

/// A packet that a rule has logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logged<'a> {
    pub group: u16,
    /// What the rule says of it.
    pub prefix: &'a [u8],
    pub ethertype: Option<u16>,
    /// A VLAN tag was on it.
    pub tagged: bool,
    /// Index of the device that it came in by, the tap rather than its bridge.
    pub device: Option<u32>,
    /// Of the process of this host that sent it.
    pub user: Option<u32>,
    /// Before the IP header, where it is known.
    pub link_header: &'a [u8],
    /// From the IP header on, or whatever stands in its place.
    pub payload: &'a [u8],
}

/// "Send me what is logged to this group."
pub fn join(group: u16) -> Vec<u8> {
    let [a, b] = group.to_be_bytes();
    let copied = [&COPIED.to_be_bytes()[..], &[2, 0]].concat();
    // Sent on at once: a run may be over a moment after what it tried. The rules bound how many there are.
    let at_once = 1_u32.to_be_bytes();
    Request::new(CONFIG, &[0, 0, a, b]).with(1, &[1]).with(2, &copied).with(5, &at_once).bytes()
}

/// All that one datagram says; what isn't understood is left out.
pub fn read(datagram: &[u8]) -> impl Iterator<Item = Said<'_>> {
    raw::messages(datagram).filter_map(said)
}

fn said(message: Message<'_>) -> Option<Said<'_>> {
    match message.kind {
        PACKET => logged(message.body).map(Said::Packet),
        _ => message.refusal().map(Said::Answer),
    }
}

fn logged(message: &[u8]) -> Option<Logged<'_>> {
    let group = u16::from_be_bytes(first(message.get(2..)?)?);
    let mut logged = Logged { group, ..Logged::default() };
    let mut bridge_port = false;
    for (kind, value) in attributes(message.get(4..)?) {
        match kind {
            1 => logged.ethertype = first(value).map(u16::from_be_bytes),
            // The port of the bridge says more than the bridge.
            4 if !bridge_port => logged.device = first(value).map(u32::from_be_bytes),
            6 => (logged.device, bridge_port) = (first(value).map(u32::from_be_bytes), true),
            9 => logged.payload = value,
            10 => logged.prefix = value.strip_suffix(&[0]).unwrap_or(value),
            11 => logged.user = first(value).map(u32::from_be_bytes),
            16 | 20 => logged.link_header = value,
            19 => logged.tagged = true,
            _ => {}
        }
    }
    Some(logged)
}
