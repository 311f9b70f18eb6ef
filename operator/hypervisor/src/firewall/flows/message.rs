//! The part of `nfnetlink_log` that we speak: one message to the kernel, and its answers.
//!
//! It is written by hand, because the crate for it hides the kind of a frame and does not know VLAN
//! tags. No input makes this panic, allocate or loop (`tests.rs` checks that).

use crate::firewall::netlink::raw::{self, Message, Request, attributes, first};

/// The copied bytes of a packet: all headers that we read, and little of the private content.
pub const COPIED: u32 = 96;

const PACKET: u16 = 4 << 8;
const CONFIG: u16 = 4 << 8 | 1;

/// Something that the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// The answer to our message; 0 means yes, any other value is the error's number.
    Answer(i32),
    Packet(Logged<'a>),
}

/// A packet that a rule has logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logged<'a> {
    pub group: u16,
    /// The prefix that the rule gives.
    pub prefix: &'a [u8],
    pub ethertype: Option<u16>,
    /// A VLAN tag was on it.
    pub tagged: bool,
    /// Index of the device that it came in by, the tap rather than its bridge.
    pub device: Option<u32>,
    /// The user of the sending process of this host.
    pub user: Option<u32>,
    /// Before the IP header, where it is known.
    pub link_header: &'a [u8],
    /// The packet from its IP header on, or the bytes in that place.
    pub payload: &'a [u8],
}

/// "Send me the log of this group."
pub fn join(group: u16) -> Vec<u8> {
    let [a, b] = group.to_be_bytes();
    let copied = [&COPIED.to_be_bytes()[..], &[2, 0]].concat();
    // Sent on at once: a run may be over a moment after its attempt. The rules bound their number.
    let at_once = 1_u32.to_be_bytes();
    Request::new(CONFIG, &[0, 0, a, b]).with(1, &[1]).with(2, &copied).with(5, &at_once).bytes()
}

/// Everything in one datagram; unknown parts are left out.
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
