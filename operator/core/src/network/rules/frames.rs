//! The permitted frames of a machine: its own addresses, IPv4, ARP, and IPv6 where its pool asks
//! for it.
//!
//! The chains come before the kernel's own handling of bridged IP packets. So no packet has been
//! reassembled, unwrapped or answered when the rules look.

use super::Wanted;
use super::ir::{Chain, Ether, LogKey, Rule, Side, Then, Version, When, rule};
use super::names::{ARRIVING, BRIDGED, LEAVING, PLUGGED, PREFIX_FRAME, REFUSE, REFUSED};

/// The chains that every policy shares.
pub(super) fn shared(wanted: &Wanted<'_>) -> Vec<Chain> {
    let taps = || format!("{}*", wanted.table.tap_prefix());
    let log = Then::Log { prefix: PREFIX_FRAME, group: wanted.table.log_group(), by: LogKey::Tap };
    vec![
        Chain::base(
            "from_taps",
            "type filter hook prerouting priority -300",
            from_taps(wanted, taps()),
        ),
        Chain::base(
            "between_taps",
            "type filter hook forward priority -300",
            vec![rule(
                [When::Interface(Side::In, taps()), When::Interface(Side::Out, taps())],
                Then::Drop,
            )],
        ),
        // The host routes machines on our own bridge, and their frames pass here; the rules behind
        // guard the host's addresses.
        Chain::base(
            "to_host",
            "type filter hook input priority -300",
            vec![
                // Broadcast frames on a bridge, such as a question for an address, pass here too;
                // they are no attempt to reach the host.
                rule([When::Tap(Side::In, PLUGGED), When::ToGroup], Then::Drop),
                rule([When::Tap(Side::In, PLUGGED)], Then::Goto(REFUSE.into())),
            ],
        ),
        Chain::base(
            "to_taps",
            "type filter hook postrouting priority -300",
            vec![
                rule([When::NotInterface(Side::Out, taps())], Then::Accept),
                rule([When::ServerAnswer], Then::Hear),
                rule([], Then::ByTap(Side::Out, ARRIVING)),
                rule([], Then::Drop),
            ],
        ),
        Chain::new(
            REFUSE,
            vec![rule([], Then::CountTap(REFUSED)), rule([], log), rule([], Then::Drop)],
        ),
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
    let ip = |ether, version| {
        [When::Frame(ether), When::ToMac(gateway), When::PinnedIp(version), When::PlainIp(version)]
    };
    let mut rules = vec![
        rule([When::NotInterface(Side::In, taps)], Then::Accept),
        rule([], Then::ByTap(Side::In, LEAVING)),
        rule([], Then::ByTap(Side::In, BRIDGED)),
        rule(ip(Ether::Ipv4, Version::Four), Then::Accept),
        rule(arp, Then::Accept),
    ];
    if wanted.ipv6() {
        rules.extend([
            // Every kernel sends these frames, and nothing listens to them, so they are not
            // reported.
            rule([When::Frame(Ether::Ipv6), When::GroupReport], Then::Drop),
            // Both sides know each other's addresses from the start.
            rule([When::Frame(Ether::Ipv6), When::AmongNeighbours], Then::Goto(REFUSE.into())),
            rule(ip(Ether::Ipv6, Version::Six), Then::Accept),
        ]);
    }
    rules.push(rule([], Then::Goto(REFUSE.into())));
    rules
}
