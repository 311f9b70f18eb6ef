//! Rules as nft reads them.

use std::fmt::Display;

use ipnet::IpNet;

use super::ir::{Chain, Ether, LogKey, Rule, Set, SetKind, Side, Then, Transport, Version, When};
use super::limits::{
    BY_MAC, HEARD_SIZE, LOG_BYTES, LOG_RATE, METER_SIZE, begins_set, byte_burst, bytes_set,
    connections_set, interface, packet_burst, packets_set,
};
use super::names::{CALLERS, HEARD, LEASED, LINKED, PINNED, POOLS, STATIONS, of};
use crate::network::PortRange;

/// Fields of a DHCP message, as bits behind the start of its UDP header: a question, from no relay,
/// or an answer; its cookie; its client; the given address. nft has no words for them, so all are
/// numbers. The last two are keys of sets.
const DHCP_ASKS: &str = "@th,64,8 1 @th,256,32 0 @th,1952,32 0x63825363";
const DHCP_ANSWERS: &str = "@th,64,8 2 @th,1952,32 0x63825363";
const CALLER: &str = "iifname . @th,288,48";
pub(super) const CALLED: &str = "oifname . @th,288,48";
pub(super) const GIVEN: &str = "oifname . @th,192,32";

/// The user of the process that sent a packet.
pub(super) const USER: &str = "meta skuid";

/// `set NAME { … }`, as part of a table.
pub(super) fn set(set: &Set) -> String {
    let (word, more) = match set.kind {
        SetKind::Members => ("set", String::new()),
        SetKind::Verdicts => ("map", String::new()),
        SetKind::Counted => ("set", "; counter".to_owned()),
        // An element is forgotten a minute after its last packet: another machine may get the
        // interface's name.
        SetKind::Rates => {
            let size = if set.name == HEARD { HEARD_SIZE } else { METER_SIZE };
            ("set", format!("; size {size}; flags dynamic,timeout; timeout 1m"))
        }
        SetKind::Connections => ("set", format!("; size {METER_SIZE}; flags dynamic")),
    };
    let verdict = if set.kind == SetKind::Verdicts { " : verdict" } else { "" };
    format!("\t{word} {} {{ typeof {}{verdict}{more}; }}\n", set.name, set.key)
}

/// A chain without its rules, so that others can point to it.
pub(super) fn declare(chain: &Chain) -> String {
    match &chain.hook {
        Some(hook) => format!("\tchain {} {{ {hook}; policy accept; }}\n", chain.name),
        None => format!("\tchain {} {{ }}\n", chain.name),
    }
}

/// A chain's rules, as part of a table.
pub(super) fn rules(chain: &Chain) -> String {
    let head = format!("\tchain {} {{\n", chain.name);
    chain.rules.iter().fold(head, |text, rule| text + "\t\t" + &line(rule) + "\n") + "\t}\n"
}

fn line(rule: &Rule) -> String {
    let words: Vec<String> = rule.when.iter().map(when).chain([then(&rule.then)]).collect();
    words.join(" ")
}

fn when(when: &When) -> String {
    match when {
        When::Interface(side, name) => format!("{} \"{name}\"", interface(*side)),
        When::NotInterface(side, name) => format!("{} != \"{name}\"", interface(*side)),
        When::Tap(side, set) => format!("{} @{set}", interface(*side)),
        When::Frame(ether) => format!("ether type {}", ethertype(*ether)),
        When::NotFrame(ether) => format!("ether type != {}", ethertype(*ether)),
        When::ToMac(mac) => format!("ether daddr {mac}"),
        When::ToMacOrAll(mac) => format!("ether daddr {{ {mac}, ff:ff:ff:ff:ff:ff }}"),
        When::ToGroup => "ether daddr & 01:00:00:00:00:00 != 00:00:00:00:00:00".to_owned(),
        When::PlainArp => {
            "arp htype 1 arp ptype ip arp hlen 6 arp plen 4 arp operation { request, reply }"
                .to_owned()
        }
        When::ArpTarget(address) => format!("arp daddr ip {address}"),
        When::PinnedIp(version) => {
            format!("iifname . ether saddr . {} saddr @{}", ip(*version), of(PINNED, *version))
        }
        When::PinnedArp => {
            let [pinned, _] = PINNED;
            format!(
                "iifname . ether saddr . arp saddr ip @{pinned} iifname . arp saddr ether . arp \
                    saddr ip @{pinned}"
            )
        }
        When::Station => format!("iifname . ether saddr @{STATIONS}"),
        When::StationArp => {
            format!("iifname . ether saddr @{STATIONS} iifname . arp saddr ether @{STATIONS}")
        }
        When::Leased => format!("iifname . ip saddr @{LEASED}"),
        When::LeasedArp => format!("iifname . arp saddr ip @{LEASED}"),
        When::NobodysArp => "arp saddr ip 0.0.0.0".to_owned(),
        When::ClientQuestion => {
            format!("udp sport 68 udp dport 67 {DHCP_ASKS} {CALLER} @{CALLERS}")
        }
        When::ServerAnswer => format!(
            "ether type ip ip daddr 255.255.255.255 udp sport 67 udp dport 68 {DHCP_ANSWERS} \
                {CALLED} @{CALLERS}"
        ),
        When::PlainIp(Version::Four) => "ip hdrlength 5 ip frag-off & 0x3fff == 0".to_owned(),
        When::PlainIp(Version::Six) => "ip6 nexthdr { tcp, udp, ipv6-icmp }".to_owned(),
        // The numbers below are errors and echo.
        When::AmongNeighbours => "icmpv6 type 130-255".to_owned(),
        When::GroupReport => "ip6 daddr ff02::16".to_owned(),
        When::NotIpv4 => "meta nfproto != ipv4".to_owned(),
        When::Destination(nets) => format!("{} daddr {}", ip(version(nets)), one_of(nets)),
        When::Source(net) => format!("{} saddr {net}", ip(version(&[*net]))),
        When::NotToLinked(version) => {
            format!("{} daddr != @{}", ip(*version), of(LINKED, *version))
        }
        When::NotUnicast(Version::Four) => "meta nfproto ipv4 fib daddr type != unicast".to_owned(),
        // There, the answer is the route of the host's own packets: machines may have one that the
        // host has not.
        When::NotUnicast(Version::Six) => {
            "meta nfproto ipv6 fib daddr type { local, anycast, multicast }".to_owned()
        }
        When::SentBy(users) => format!("{USER} {}-{}", users.start(), users.end()),
        When::EchoRequest(Version::Four) => "icmp type echo-request".to_owned(),
        When::EchoRequest(Version::Six) => "icmpv6 type echo-request".to_owned(),
        When::Ports(Transport::Tcp, ports) => format!("tcp dport {}", ports_text(ports)),
        When::Ports(Transport::Udp, ports) => format!("udp dport {}", ports_text(ports)),
        When::Dns => "meta l4proto { tcp, udp } th dport 53".to_owned(),
        When::UdpFrom(port) => format!("udp sport {port}"),
        When::UdpTo(port) => format!("udp dport {port}"),
        When::Redirected => "ct status dnat".to_owned(),
        When::Invalid => "ct state invalid".to_owned(),
        When::Known => "ct status confirmed".to_owned(),
        When::Answer => "ct state established ct direction reply".to_owned(),
        When::PathMtu(Version::Four) => {
            "ct state related icmp type destination-unreachable icmp code frag-needed".to_owned()
        }
        When::PathMtu(Version::Six) => "ct state related icmpv6 type packet-too-big".to_owned(),
        When::PacketsOver(side, rate) => over(
            *side,
            &packets_set(*side, *rate),
            &format!("{rate}/second burst {} packets", packet_burst(*rate)),
        ),
        When::BytesOver(side, rate) => over(
            *side,
            &bytes_set(*side, *rate),
            &format!("{rate} bytes/second burst {} bytes", byte_burst(*rate)),
        ),
        When::BeginsOver(rate) => {
            let burst = 2 * rate;
            format!(
                "update @{} {{ {BY_MAC} limit rate over {rate}/second burst {burst} packets }}",
                begins_set(*rate)
            )
        }
        When::ConnectionsOver(limit) => {
            format!("add @{} {{ {BY_MAC} ct count over {limit} }}", connections_set(*limit))
        }
    }
}

fn then(then: &Then) -> String {
    match then {
        Then::Accept => "accept".to_owned(),
        Then::Drop => "drop".to_owned(),
        Then::Goto(chain) => format!("goto {chain}"),
        Then::ByTap(side, map) => format!("{} vmap @{map}", interface(*side)),
        Then::BySource(version) => format!("{} saddr vmap @{}", ip(*version), of(POOLS, *version)),
        Then::Hear => format!("update @{HEARD} {{ {GIVEN} }}"),
        Then::CountTap(set) => format!("iifname @{set}"),
        Then::CountByMac(set) => format!("{BY_MAC} @{set}"),
        Then::Log { prefix, group, by } => {
            let key = match by {
                LogKey::Mac => BY_MAC,
                LogKey::Tap => "iifname",
                LogKey::User => USER,
            };
            let set = log_set(prefix);
            format!(
                "update @{set} {{ {key} limit rate {LOG_RATE} }} log prefix \"{prefix}\" group \
                    {group} snaplen {LOG_BYTES}"
            )
        }
        Then::Masquerade => "masquerade".to_owned(),
    }
}

/// The set that bounds the log lines of a verdict.
pub(super) fn log_set(prefix: &str) -> String {
    format!("told_{prefix}")
}

fn over(side: Side, set: &str, rate: &str) -> String {
    format!("update @{set} {{ {} limit rate over {rate} }}", interface(side))
}

fn ethertype(ether: Ether) -> &'static str {
    match ether {
        Ether::Ipv4 => "ip",
        Ether::Ipv6 => "ip6",
        Ether::Arp => "arp",
    }
}

/// The word of nft for a version of IP.
fn ip(version: Version) -> &'static str {
    match version {
        Version::Four => "ip",
        Version::Six => "ip6",
    }
}

/// The version of networks that all have one version.
fn version(nets: &[IpNet]) -> Version {
    if matches!(nets, [IpNet::V6(_), ..]) { Version::Six } else { Version::Four }
}

fn ports_text(ports: &[PortRange]) -> String {
    let mut ports: Vec<PortRange> = ports.to_vec();
    ports.sort_unstable();
    one_of(&joined(&ports))
}

/// Without overlaps, which nft takes for a mistake.
fn joined(sorted: &[PortRange]) -> Vec<PortRange> {
    let mut all: Vec<PortRange> = Vec::new();
    for range in sorted {
        match all.last_mut() {
            Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => {
                last.last = last.last.max(range.last);
            }
            _ => all.push(*range),
        }
    }
    all
}

fn one_of<T: Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    match items.as_slice() {
        [one] => one.clone(),
        many => format!("{{ {} }}", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_touch_are_one_range() {
        let port = |first, last| PortRange { first, last };
        assert_eq!(ports_text(&[port(443, 443), port(22, 22)]), "{ 22, 443 }");
        assert_eq!(ports_text(&[port(82, 90), port(80, 80), port(81, 85), port(80, 80)]), "80-90");
        assert_eq!(ports_text(&[port(65_535, 65_535), port(0, 65_534)]), "0-65535");
    }
}
