//! The host itself: machines reach none of its addresses, and it begins nothing with them. What leaves wears its address. Their QEMUs, which
//! are processes of the host, have no network but that.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::Wanted;
use super::forward::versions;
use super::ir::{Chain, Side, Then, When, rule};
use super::names::REFUSE;

pub(super) fn chains(wanted: &Wanted<'_>) -> Vec<Chain> {
    let bridge = || wanted.subnet.bridge.clone();
    let from = || When::Interface(Side::In, bridge());
    let to = || When::Interface(Side::Out, bridge());
    let six = wanted.ipv6();
    let path_mtu = versions(six).map(|version| rule([to(), When::PathMtu(version)], Then::Accept));
    let ours = wanted.nets().into_iter().filter(|net| six || matches!(net, IpNet::V4(_)));
    let away = ours.map(|net| rule([When::Source(net), When::NotInterface(Side::Out, bridge())], Then::Masquerade));
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
    chains.extend(wanted.qemu_users.clone().map(of_qemu));
    chains
}

/// Who takes over a QEMU is a process of the host, with all of its networks, loopback too. QEMU's own sockets are files and unix sockets; a
/// machine's packets come from its tap and are no user's. First of all, so that nobody's rules answer or redirect it before.
pub(super) fn of_qemu(users: RangeInclusive<u32>) -> Chain {
    Chain::base("from_qemu", "type filter hook output priority raw - 10", vec![rule([When::SentBy(users)], Then::Drop)])
}
