//! One network attempt of a machine, as the rules saw it. Only the machine itself is certain; the
//! rest is a guest's word.

use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use agentvm_crds::Protocol;

use super::Mac;
use crate::names::DomainName;

/// Something that was logged by the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub machine: DomainName,
    /// When it was heard of; never before it happened.
    pub at: Instant,
    pub verdict: FlowVerdict,
    pub target: Target,
}

/// The verdict of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowVerdict {
    /// A new connection was let through.
    Allowed,
    /// A packet that no rule lets through.
    Denied,
    /// It would have been let through, had the machine not had its share already.
    Limited,
    /// The machine may not send such a frame anywhere: a foreign source address, a VLAN tag, IPv6
    /// without permission, …
    Frame,
}

/// Where it was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub kind: TargetKind,
    pub to: Destination,
    /// The port of TCP and UDP, if the packet was long enough.
    pub port: Option<u16>,
}

/// The kind of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetKind {
    Ip(Protocol),
    /// Another protocol over IP, by number.
    OtherIp(u8),
    /// A packet that is no plain one.
    Ipv6,
    Arp,
    Vlan,
    /// Another kind of frame, by number.
    Ethertype(u16),
}

/// An address, or the device if there was no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    Address(IpAddr),
    Device(Mac),
    /// The packet was too short to say.
    Unknown,
}

impl FlowVerdict {
    /// The word in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Limited => "limited",
            Self::Frame => "frame",
        }
    }
}

impl Target {
    /// Every system sends these packets by itself as soon as it has a network: it looks for
    /// neighbours, routers and services. They are dropped like other forbidden packets, but need
    /// not be reported.
    pub fn is_chatter(&self) -> bool {
        let group = match self.to {
            Destination::Address(IpAddr::V4(to)) => to.is_multicast() || to.is_broadcast(),
            Destination::Address(IpAddr::V6(to)) => to.is_multicast(),
            Destination::Device(to) => to.bytes()[0] & 1 == 1,
            Destination::Unknown => false,
        };
        group && !matches!(self.kind, TargetKind::Arp | TargetKind::Vlan)
    }

    /// The address, where there was one to be found.
    pub fn address(&self) -> Option<IpAddr> {
        match self.to {
            Destination::Address(to) => Some(to),
            Destination::Device(_) | Destination::Unknown => None,
        }
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(protocol) => f.write_str(protocol.as_str()),
            Self::OtherIp(number) => write!(f, "IP protocol {number}"),
            Self::Ipv6 => f.write_str("IPv6"),
            Self::Arp => f.write_str("ARP"),
            Self::Vlan => f.write_str("VLAN"),
            Self::Ethertype(number) => write!(f, "frame 0x{number:04x}"),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Device(mac) => mac.fmt(f),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// The text for people: `TCP 203.0.113.9 port 8080`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.to)?;
        self.port.map_or(Ok(()), |port| write!(f, " port {port}"))
    }
}
