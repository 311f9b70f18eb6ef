//! Walks a packet through the rules as data, the way the kernel walks it through the text.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agentvm_crds::Protocol;

use crate::network::Mac;
use crate::network::rules::Wanted;
use crate::network::rules::ir::{Ether, Rules, Side, Then, Transport, Version, When};
use crate::network::rules::{add_link, elements, grant, names, write};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Ipv4,
    Ipv6,
    Arp,
    Other,
}

/// A packet, and the frame that it comes in.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what the kernel knows of a packet is mostly yes or no"
)]
pub struct Packet {
    pub from: String,
    pub to: String,
    pub wire: Wire,
    pub from_mac: Mac,
    pub to_mac: Mac,
    /// The sender's fields of an ARP, or of a DHCP client's question.
    pub arp_mac: Mac,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub service: Option<Protocol>,
    pub port: u16,
    pub from_port: u16,
    pub plain: bool,
    /// The messages of `ICMPv6` that only neighbours send.
    pub neighbourly: bool,
    pub unicast: bool,
    /// The user of the sending process, if the packet is the host's.
    pub user: Option<u32>,
    pub redirected: bool,
    pub known: bool,
    pub answer: bool,
}

pub const ALL: [u8; 6] = [0xff; 6];

/// The rules, and the content of the sets and maps once every link was opened.
pub struct Walk {
    pub bridge: Rules,
    pub inet: Rules,
    elements: HashMap<(String, String), String>,
}

impl Walk {
    pub fn new(wanted: &Wanted<'_>) -> Self {
        let mut elements = HashMap::new();
        for link in wanted.links.iter().filter(|link| wanted.policies.contains_key(&link.owner_uid))
        {
            let leases = wanted.leases.iter().filter(|lease| lease.tap == link.nic.tap);
            let text = leases.fold(add_link(wanted.table, link), |text, lease| {
                text + &grant(wanted.table, lease)
            });
            for line in text.lines().filter(|line| line.starts_with("add element")) {
                let (head, body) = line.split_once(" { ").unwrap();
                let (key, verdict) = body
                    .trim_end_matches(" }")
                    .split_once(" : ")
                    .unwrap_or((body.trim_end_matches(" }"), ""));
                let set = head.rsplit(' ').next().unwrap();
                elements.insert((set.to_owned(), key.replace('"', "")), verdict.to_owned());
            }
        }
        Self { bridge: write::in_bridge(wanted), inet: write::in_inet(wanted), elements }
    }

    /// Whether all base chains of this hook let it through.
    pub fn passes(&self, rules: &Rules, hook: &str, packet: &Packet) -> bool {
        let mut base = rules.chains.iter().filter(|chain| {
            chain.hook.as_ref().is_some_and(|text| text.contains(&format!(" hook {hook} ")))
        });
        base.all(|chain| self.judge(rules, &chain.name, packet).unwrap_or(true))
    }

    /// The verdict of a chain; nothing if its end is reached.
    fn judge(&self, rules: &Rules, name: &str, packet: &Packet) -> Option<bool> {
        let chain = rules.chains.iter().find(|chain| chain.name == name).unwrap();
        for rule in &chain.rules {
            if !rule.when.iter().all(|when| self.holds(when, packet)) {
                continue;
            }
            let verdict = match &rule.then {
                Then::Accept => return Some(true),
                Then::Drop => return Some(false),
                Then::Goto(chain) => format!("goto {chain}"),
                Then::ByTap(side, map) => self.element(map, interface(*side, packet)),
                Then::BySource(of) if *of != version(packet) => continue,
                Then::BySource(of) => {
                    self.element(names::of(names::POOLS, *of), &packet.source.to_string())
                }
                Then::Hear
                | Then::CountTap(_)
                | Then::CountByMac(_)
                | Then::Log { .. }
                | Then::Masquerade => {
                    continue;
                }
            };
            match verdict.split_once(' ') {
                Some(("goto", chain)) => return self.judge(rules, chain, packet),
                Some(("jump", chain)) => match self.judge(rules, chain, packet) {
                    None => {}
                    done => return done,
                },
                _ => assert!(verdict.is_empty(), "{verdict}"),
            }
        }
        None
    }

    fn element(&self, set: &str, key: &str) -> String {
        self.elements.get(&(set.to_owned(), key.to_owned())).cloned().unwrap_or_default()
    }

    fn has(&self, set: &str, key: &str) -> bool {
        self.elements.contains_key(&(set.to_owned(), key.to_owned()))
    }

    fn pinned(&self, packet: &Packet, mac: Mac) -> bool {
        self.has(
            names::of(names::PINNED, version(packet)),
            &format!("{} . {mac} . {}", packet.from, packet.source),
        )
    }

    fn station(&self, packet: &Packet, mac: Mac) -> bool {
        self.has(names::STATIONS, &format!("{} . {mac}", packet.from))
    }

    fn leased(&self, packet: &Packet) -> bool {
        self.has(names::LEASED, &format!("{} . {}", packet.from, packet.source))
    }

    fn holds(&self, when: &When, packet: &Packet) -> bool {
        let udp = packet.service == Some(Protocol::Udp);
        match when {
            When::Interface(side, name) => named(interface(*side, packet), name),
            When::NotInterface(side, name) => !named(interface(*side, packet), name),
            When::Tap(side, set) => self.has(set, interface(*side, packet)),
            When::Frame(ether) => frame(*ether, packet),
            When::NotFrame(ether) => !frame(*ether, packet),
            When::ToMac(mac) => packet.to_mac == *mac,
            When::ToMacOrAll(mac) => packet.to_mac == *mac || packet.to_mac.bytes() == ALL,
            When::ToGroup => packet.to_mac.bytes()[0] & 1 == 1,
            When::PlainArp => packet.plain,
            When::PlainIp(of) => *of == version(packet) && packet.plain,
            When::AmongNeighbours => packet.neighbourly,
            When::GroupReport => {
                packet.destination == Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16)
            }
            When::ArpTarget(address) => packet.destination == *address,
            When::PinnedIp(of) => *of == version(packet) && self.pinned(packet, packet.from_mac),
            When::PinnedArp => {
                self.pinned(packet, packet.from_mac) && self.pinned(packet, packet.arp_mac)
            }
            When::Station => self.station(packet, packet.from_mac),
            When::StationArp => {
                self.station(packet, packet.from_mac) && self.station(packet, packet.arp_mac)
            }
            When::Leased | When::LeasedArp => self.leased(packet),
            When::NobodysArp => packet.source == Ipv4Addr::UNSPECIFIED,
            When::NotIpv4 => version(packet) != Version::Four,
            When::Destination(nets) => nets.iter().any(|net| net.contains(&packet.destination)),
            When::Source(net) => net.contains(&packet.source),
            When::NotToLinked(of) => {
                *of == version(packet)
                    && !self.has(names::of(names::LINKED, *of), &packet.destination.to_string())
            }
            When::SentBy(users) => packet.user.is_some_and(|user| users.contains(&user)),
            When::NotUnicast(of) => *of == version(packet) && !packet.unicast,
            When::EchoRequest(of) => {
                *of == version(packet) && packet.service == Some(Protocol::Icmp)
            }
            When::Ports(transport, ports) => {
                let protocol =
                    if *transport == Transport::Tcp { Protocol::Tcp } else { Protocol::Udp };
                let within =
                    ports.iter().any(|range| (range.first..=range.last).contains(&packet.port));
                packet.service == Some(protocol) && within
            }
            When::Dns => packet.port == 53 && (udp || packet.service == Some(Protocol::Tcp)),
            When::UdpFrom(port) => udp && packet.from_port == *port,
            When::UdpTo(port) => udp && packet.port == *port,
            When::ClientQuestion => {
                let caller =
                    format!("{} . {}", packet.from, elements::number(&packet.arp_mac.bytes()));
                udp && (packet.from_port, packet.port) == (68, 67)
                    && self.has(names::CALLERS, &caller)
            }
            When::Redirected => packet.redirected,
            When::Known => packet.known,
            When::Answer => packet.answer,
            // The packet is not too fast, not broken, not an error, and not a server's.
            When::PacketsOver(..)
            | When::BytesOver(..)
            | When::BeginsOver(_)
            | When::ConnectionsOver(_)
            | When::Invalid
            | When::ServerAnswer
            | When::PathMtu(_) => false,
        }
    }
}

fn interface(side: Side, packet: &Packet) -> &str {
    match side {
        Side::In => &packet.from,
        Side::Out => &packet.to,
    }
}

/// The version of its addresses; the kind of its frame is separate.
fn version(packet: &Packet) -> Version {
    if packet.source.is_ipv4() { Version::Four } else { Version::Six }
}

fn named(name: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |start| name.starts_with(start))
}

fn frame(ether: Ether, packet: &Packet) -> bool {
    let wire = match ether {
        Ether::Ipv4 => Wire::Ipv4,
        Ether::Ipv6 => Wire::Ipv6,
        Ether::Arp => Wire::Arp,
    };
    packet.wire == wire
}
