//! `nfnetlink_log`, as far as it is spoken here: one message to the kernel, and what comes back.
//!
//! Written out because the crate for it keeps the kind of a frame to itself and knows no VLAN tags. Lengths are believed only
//! as far as there are bytes: no input makes this panic, allocate or loop (`tests.rs` holds it to that).

/// Bytes of a packet that are copied: all headers that are looked at, and little of what is private.
pub const COPIED: u32 = 96;

const HEADER: usize = 16;
const ERROR: u16 = 2;
const PACKET: u16 = 4 << 8;
const CONFIG: u16 = 4 << 8 | 1;
const REQUEST_AND_ACKNOWLEDGE: u16 = 1 | 4;

/// Something that the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// The answer to what was sent; 0 is yes, anything else an error number.
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
    /// Before the IP header, where it is known.
    pub link_header: &'a [u8],
    /// From the IP header on, or whatever stands in its place.
    pub payload: &'a [u8],
}

/// "Send me what is logged to this group."
pub fn join(group: u16) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend(group.to_be_bytes());
    let [a, b, c, d] = COPIED.to_be_bytes();
    attribute(&mut body, 1, &[1]);
    attribute(&mut body, 2, &[a, b, c, d, 2, 0]);
    // Sent on at once: a run may be over a moment after what it tried. The rules bound how many there are.
    attribute(&mut body, 5, &1_u32.to_be_bytes());
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(CONFIG.to_ne_bytes());
    message.extend(REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// All that one datagram says; what isn't understood is left out.
pub fn read(datagram: &[u8]) -> impl Iterator<Item = Said<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let (message, kind) = message(&mut rest)?;
        Some(match kind {
            ERROR => number(message).map(|code| Said::Answer(i32::from_ne_bytes(code))),
            PACKET => logged(message).map(Said::Packet),
            _ => None,
        })
    })
    .flatten()
}

/// The next message behind its header, and what kind it is.
fn message<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], u16)> {
    let length = usize::try_from(u32::from_ne_bytes(number(rest)?)).ok()?;
    let kind = u16::from_ne_bytes(number(rest.get(4..)?)?);
    let message = rest.get(HEADER..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((message, kind))
}

fn logged(message: &[u8]) -> Option<Logged<'_>> {
    let group = u16::from_be_bytes(number(message.get(2..)?)?);
    let mut logged = Logged { group, ..Logged::default() };
    let mut rest = message.get(4..)?;
    let mut bridge_port = false;
    while let Some((kind, value)) = next_attribute(&mut rest) {
        match kind {
            1 => logged.ethertype = number(value).map(u16::from_be_bytes),
            // The port of the bridge says more than the bridge.
            4 if !bridge_port => logged.device = number(value).map(u32::from_be_bytes),
            6 => (logged.device, bridge_port) = (number(value).map(u32::from_be_bytes), true),
            9 => logged.payload = value,
            10 => logged.prefix = value.strip_suffix(&[0]).unwrap_or(value),
            16 | 20 => logged.link_header = value,
            19 => logged.tagged = true,
            _ => {}
        }
    }
    Some(logged)
}

fn next_attribute<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = usize::from(u16::from_ne_bytes(number(rest)?));
    let kind = u16::from_ne_bytes(number(rest.get(2..)?)?) & 0x3fff;
    let value = rest.get(4..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, value))
}

/// The first bytes.
pub fn number<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}
