//! Rules as data: the generators write them, the tests walk packets through them, and the text
//! comes from them.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use crate::network::{Mac, PortRange};
use ipnet::IpNet;

/// The rules of one family.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub family: &'static str,
    pub sets: Vec<Set>,
    pub chains: Vec<Chain>,
}

/// A set or map of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set {
    pub name: String,
    pub kind: SetKind,
    /// The expression of nft, behind `typeof`.
    pub key: &'static str,
}

/// The purpose of a set. It determines the form of the set, and whether a rewrite empties it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetKind {
    /// The connected machines. Every rewrite empties and fills it.
    Members,
    /// The connected machines, with a chain for each.
    Verdicts,
    /// The counted machines. A rewrite keeps the counters.
    Counted,
    /// Packets fill it; it remembers their rate.
    Rates,
    /// Filled by packets; remembers the connections.
    Connections,
}

/// A chain.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub name: String,
    /// `type … hook … priority …`, of a chain that the kernel calls.
    pub hook: Option<String>,
    pub rules: Vec<Rule>,
}

/// If all of `when` holds, `then`.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub when: Vec<When>,
    pub then: Then,
}

/// Which way a rule looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    In,
    Out,
}

/// The version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Four,
    Six,
}

/// A condition.
#[derive(Clone, Debug)]
pub(super) enum When {
    /// The interface has this name, or a name with this beginning (`*`).
    Interface(Side, String),
    NotInterface(Side, String),
    /// The tap is in a set.
    Tap(Side, &'static str),
    /// An Ethernet frame with just this ethertype: no VLAN tag before it.
    Frame(Ether),
    NotFrame(Ether),
    /// To this address.
    ToMac(Mac),
    ToMacOrAll(Mac),
    /// To a group address, which all is one of.
    ToGroup,
    /// ARP over Ethernet for IPv4, request or reply.
    PlainArp,
    ArpTarget(Ipv4Addr),
    /// Tap, MAC and source belong to one machine; in ARP, the sender's fields too.
    PinnedIp(Version),
    PinnedArp,
    /// Tap and MAC belong to one machine on a bridge of the host.
    Station,
    StationArp,
    /// The source is an address that was leased to the tap; in ARP, the sender's fields too, which
    /// may also be empty.
    Leased,
    LeasedArp,
    NobodysArp,
    /// A DHCP client's question for itself. A machine that sends other DHCP messages, for example
    /// answers, would have others pass them on in their own name.
    ClientQuestion,
    /// A DHCP server's broadcast answer to the machine behind the outgoing tap: no router passes on
    /// such a packet.
    ServerAnswer,
    /// Not a fragment, no IP options; in IPv6 no other header before that of TCP, UDP or ICMP.
    PlainIp(Version),
    /// The messages of neighbours in `ICMPv6`: addresses, routers, groups.
    AmongNeighbours,
    /// To the listeners for reports of groups.
    GroupReport,
    NotIpv4,
    /// One of these, all of one version.
    Destination(Vec<IpNet>),
    Source(IpNet),
    /// The destination is not a machine whose link is open.
    NotToLinked(Version),
    /// A broadcast, an address of the host, …: nothing that is routed to one other machine.
    NotUnicast(Version),
    /// Sent by a process of the host that has one of these users.
    SentBy(RangeInclusive<u32>),
    /// TCP or UDP to one of these ports.
    Ports(Transport, Vec<PortRange>),
    EchoRequest(Version),
    /// TCP or UDP to port 53.
    Dns,
    UdpFrom(u16),
    UdpTo(u16),
    /// A foreign rule changed the destination of the packet.
    Redirected,
    Invalid,
    /// Belongs to a connection that was let through before.
    Known,
    /// Answers a connection that was let through.
    Answer,
    /// "Too big": the only message that path MTU discovery needs.
    PathMtu(Version),
    /// More than so many packets in a second through the interface of this side.
    PacketsOver(Side, u32),
    BytesOver(Side, u64),
    /// More than so many new connections of this machine in a second.
    BeginsOver(u32),
    ConnectionsOver(u32),
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// Ethertypes that machines may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ether {
    Ipv4,
    Ipv6,
    Arp,
}

/// The action.
#[derive(Clone, Debug)]
pub(super) enum Then {
    Accept,
    Drop,
    Goto(String),
    /// The chain that the map has for the tap; nothing if the tap is not in it.
    ByTap(Side, &'static str),
    BySource(Version),
    /// Remembers the address that a DHCP server gives, and goes on.
    Hear,
    /// Counts for the tap, or the MAC that it came from, and goes on.
    CountTap(&'static str),
    CountByMac(&'static str),
    /// Tells user space, at most so often, and goes on.
    Log {
        prefix: &'static str,
        group: u16,
        by: LogKey,
    },
    Masquerade,
}

/// The machine or user whose log lines are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogKey {
    Mac,
    Tap,
    /// The user of the sending process.
    User,
}

impl Set {
    pub fn new(name: impl Into<String>, kind: SetKind, key: &'static str) -> Self {
        Self { name: name.into(), kind, key }
    }
}

impl Chain {
    pub fn new(name: impl Into<String>, rules: Vec<Rule>) -> Self {
        Self { name: name.into(), hook: None, rules }
    }

    pub fn base(name: &str, hook: &str, rules: Vec<Rule>) -> Self {
        Self { name: name.to_owned(), hook: Some(hook.to_owned()), rules }
    }
}

/// A rule.
pub(super) fn rule(when: impl Into<Vec<When>>, then: Then) -> Rule {
    Rule { when: when.into(), then }
}
