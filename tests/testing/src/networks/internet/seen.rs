//! The packets that arrived in the test internet: each is counted before a server there answers it.
//!
//! "Not reachable" is shown by nothing of it having arrived, not by the guest having got no answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::holds_within;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RawProtocol, RecvFlags, SocketFlags, SocketType, recv, socket_with,
};

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP_V6: u8 = 58;

/// A kind of packet: protocol number, destination, destination port (for `ICMPv6` its type; 0 where
/// the protocol has none).
pub type Kind = (u8, IpAddr, u16);

#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<BTreeMap<Kind, u64>>>);

impl Seen {
    /// Packets of one kind.
    pub fn count(&self, protocol: u8, to: impl Into<IpAddr>, port: u16) -> u64 {
        self.0.lock().unwrap().get(&(protocol, to.into(), port)).copied().unwrap_or_default()
    }

    /// All packets to an address.
    pub fn to(&self, to: impl Into<IpAddr>) -> u64 {
        let to = to.into();
        self.0.lock().unwrap().iter().filter(|(kind, _)| kind.1 == to).map(|(_, count)| count).sum()
    }

    pub fn all(&self) -> BTreeMap<Kind, u64> {
        self.0.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Waits until a kind of packet has been seen. This is for the controls: the watcher is a
    /// thread of its own.
    pub fn until(&self, protocol: u8, to: impl Into<IpAddr>, port: u16) -> bool {
        let to = to.into();
        holds_within(Duration::from_secs(30), || self.count(protocol, to, port) > 0)
    }

    fn add(&self, kind: Kind) {
        *self.0.lock().unwrap().entry(kind).or_default() += 1;
    }
}

/// Watches the network namespace of the calling thread.
pub fn watch(seen: &Seen, stop: &Arc<AtomicBool>) {
    let (seen, stop) = (seen.clone(), stop.clone());
    let socket = packets();
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 96];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, _)) = recv(&socket, &mut buffer, RecvFlags::TRUNC) else { continue };
            if let Some(kind) = buffer.get(..length.min(96)).and_then(kind) {
                seen.add(kind);
            }
        }
    });
}

/// All frames, of all links there.
fn packets() -> OwnedFd {
    const EVERYTHING: u32 = 3;
    let protocol = RawProtocol::new((EVERYTHING << 8).to_le()).map(rustix::net::Protocol::from_raw);
    let socket =
        socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .unwrap();
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_millis(200))).unwrap();
    socket
}

/// Reads a frame as it was on the wire.
fn kind(frame: &[u8]) -> Option<Kind> {
    let (ethertype, packet) =
        (u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]), frame.get(14..)?);
    let (protocol, to, header): (u8, IpAddr, usize) = match ethertype {
        0x0800 => {
            let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            (*packet.get(9)?, Ipv4Addr::from(to).into(), usize::from(packet.first()? & 15) * 4)
        }
        0x86dd => {
            let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (*packet.get(6)?, Ipv6Addr::from(to).into(), 40)
        }
        _ => return None,
    };
    let port = match (protocol, packet.get(header + 2..header + 4)) {
        (TCP | UDP, Some(port)) => u16::from_be_bytes([port[0], port[1]]),
        (ICMP_V6, _) => packet.get(header).copied().unwrap_or_default().into(),
        _ => 0,
    };
    Some((protocol, to, port))
}
