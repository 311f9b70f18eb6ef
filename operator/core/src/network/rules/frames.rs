//! What a machine may say on the wire: its own addresses, IPv4, ARP, IPv6 where its pool asks for it, and nothing else.
//!
//! The chains stand before the kernel's own handling of bridged IP packets, so that nothing has been put together,
//! unwrapped or answered when they look.

use ipnet::IpNet;

use super::Wanted;
use super::forward::named_private;
use super::ir::{Chain, Ether, LogKey, Rule, Side, Then, Version, When, rule};
use super::names::{ABROAD, ARRIVING, LEAVING, OwnerChains, PLUGGED, PREFIX_FRAME, REFUSE, REFUSED};
use super::ranges::{nowhere, private, to};
use crate::network::Policy;

/// The chains that every policy shares.
pub(super) fn shared(wanted: &Wanted<'_>) -> Vec<Chain> {
    let taps = || format!("{}*", wanted.table.tap_prefix());
    let log = Then::Log { prefix: PREFIX_FRAME, group: wanted.table.log_group(), by: LogKey::Tap };
    vec![
        Chain::base("from_taps", "type filter hook prerouting priority -300", from_taps(wanted, taps())),
        Chain::base(
            "between_taps",
            "type filter hook forward priority -300",
            vec![rule([When::Interface(Side::In, taps()), When::Interface(Side::Out, taps())], Then::Drop)],
        ),
        // Machines on our own bridge are routed by the host, and come by here; its addresses are guarded behind that.
        Chain::base(
            "to_host",
            "type filter hook input priority -300",
            vec![
                // What is for everybody on a bridge, as a question for an address is, comes by here too; nobody tried the host.
                rule([When::Tap(Side::In, PLUGGED), When::ToGroup], Then::Drop),
                rule([When::Tap(Side::In, PLUGGED)], Then::Goto(REFUSE.into())),
            ],
        ),
        Chain::base(
            "to_taps",
            "type filter hook postrouting priority -300",
            vec![
                rule([When::NotInterface(Side::Out, taps())], Then::Accept),
                rule([], Then::ByTap(Side::Out, ARRIVING)),
                rule([], Then::Drop),
            ],
        ),
        Chain::new(REFUSE, vec![rule([], Then::CountTap(REFUSED)), rule([], log), rule([], Then::Drop)]),
    ]
}

fn from_taps(wanted: &Wanted<'_>, taps: String) -> Vec<Rule> {
    let gateway = wanted.gateway_mac;
    let arp = [
        When::Frame(Ether::Arp),
        When::ToMacOrAll(gateway),
        When::PlainArp,
        When::PinnedArp,
        When::ArpTarget(wanted.subnet.gateway),
    ];
    let ip =
        |ether, version| [When::Frame(ether), When::ToMac(gateway), When::PinnedIp(version), When::PlainIp(version)];
    let mut rules = vec![
        rule([When::NotInterface(Side::In, taps)], Then::Accept),
        rule([], Then::ByTap(Side::In, LEAVING)),
        rule([], Then::ByTap(Side::In, ABROAD)),
        rule(ip(Ether::Ipv4, Version::Four), Then::Accept),
        rule(arp, Then::Accept),
    ];
    if wanted.ipv6() {
        rules.extend([
            // Every kernel sends them, whatever it is told; nobody listens, and nobody needs to hear of it.
            rule([When::Frame(Ether::Ipv6), When::GroupReport], Then::Drop),
            // Who is where is known to both sides from the start.
            rule([When::Frame(Ether::Ipv6), When::AmongNeighbours], Then::Goto(REFUSE.into())),
            rule(ip(Ether::Ipv6, Version::Six), Then::Accept),
        ]);
    }
    rules.push(rule([], Then::Goto(REFUSE.into())));
    rules
}

/// What the machines of a policy may say on a bridge of the host: no IPv6. Ports are filtered elsewhere; what is never reachable
/// isn't there either, and nobody offers addresses or routes.
pub(super) fn abroad(wanted: &Wanted<'_>, owner_uid: &str, policy: &Policy) -> Chain {
    let refuse = || Then::Goto(REFUSE.into());
    let to = |nets: Vec<IpNet>| to(nets, false).map(|(_, nets)| nets);
    let never = nowhere().into_iter().chain(wanted.never.iter().copied()).chain(wanted.nets()).collect();
    let mut rules: Vec<Rule> = vec![
        rule([When::Frame(Ether::Arp), When::PlainArp, When::StationArp], Then::Accept),
        rule([When::NotFrame(Ether::Ipv4)], refuse()),
        rule([When::Station, When::PlainIp(Version::Four), When::UdpPorts { from: 68, to: 67 }], Then::Accept),
        rule([When::UdpFrom(67)], refuse()),
        rule([When::ToGroup], refuse()),
    ];
    rules.extend(to(never).map(|never| rule([never], refuse())));
    let yes = [When::Station, When::PlainIp(Version::Four)];
    let named = named_private(policy, false, &|| Then::Accept);
    rules.extend(named.into_iter().map(|named| rule([yes.to_vec(), named.when].concat(), named.then)));
    rules.extend(to(private()).map(|private| rule([private], refuse())));
    rules.push(rule(yes, Then::Accept));
    rules.push(rule([], refuse()));
    Chain::new(OwnerChains::of(owner_uid).abroad, rules)
}
