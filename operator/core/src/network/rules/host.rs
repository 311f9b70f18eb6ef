//! The host itself: machines reach none of its addresses, and it begins no connection to them.
//! Outgoing packets get its address. The machines' QEMUs are processes of the host, and have no
//! network but their taps.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::Wanted;
use super::forward::versions;
use super::ir::{Chain, LogKey, Set, SetKind, Side, Then, When, rule};
use super::names::{PREFIX_QEMU, REFUSE};
use super::text::{USER, log_set};
use crate::network::Table;

pub(super) fn chains(wanted: &Wanted<'_>) -> Vec<Chain> {
    let bridge = || wanted.subnet.bridge.clone();
    let from = || When::Interface(Side::In, bridge());
    let to = || When::Interface(Side::Out, bridge());
    let six = wanted.ipv6();
    let path_mtu = versions(six).map(|version| rule([to(), When::PathMtu(version)], Then::Accept));
    let ours = wanted.nets().into_iter().filter(|net| six || matches!(net, IpNet::V4(_)));
    let away = ours.map(|net| {
        rule([When::Source(net), When::NotInterface(Side::Out, bridge())], Then::Masquerade)
    });
    let mut chains = vec![
        Chain::base(
            "to_host",
            "type filter hook input priority filter - 10",
            vec![rule([from()], Then::Goto(REFUSE.into()))],
        ),
        Chain::base(
            "from_host",
            "type filter hook output priority filter - 10",
            path_mtu.chain([rule([to()], Then::Drop)]).collect(),
        ),
        Chain::base("leaving_host", "type nat hook postrouting priority srcnat", away.collect()),
    ];
    chains.extend(wanted.qemu_users.clone().map(|users| of_qemu(wanted.table, users)));
    chains
}

/// An attacker who takes over a QEMU is a process of the host, with all of its networks, loopback
/// too. QEMU's own sockets are files and unix sockets; a machine's packets come from its tap and
/// have no user. This comes first, so that no other rule answers or redirects a packet before. It
/// is logged, because a sound QEMU never does it.
pub(super) fn of_qemu(table: &Table, users: RangeInclusive<u32>) -> Chain {
    let sent = || [When::SentBy(users.clone())];
    let log = Then::Log { prefix: PREFIX_QEMU, group: table.log_group(), by: LogKey::User };
    let rules = vec![rule(sent(), log), rule(sent(), Then::Drop)];
    Chain::base("from_qemu", "type filter hook output priority raw - 10", rules)
}

/// The number of log lines for each of them.
pub(super) fn told_qemu() -> Set {
    Set::new(log_set(PREFIX_QEMU), SetKind::Rates, USER)
}
