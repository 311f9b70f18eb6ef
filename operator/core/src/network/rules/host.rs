//! The host itself: machines reach none of its addresses, and it begins nothing with them. What leaves wears its address.

use ipnet::IpNet;

use super::Wanted;
use super::forward::versions;
use super::ir::{Chain, Side, Then, When, rule};
use super::names::REFUSE;

pub(super) fn chains(wanted: &Wanted<'_>) -> [Chain; 3] {
    let bridge = || wanted.subnet.bridge.clone();
    let from = || When::Interface(Side::In, bridge());
    let to = || When::Interface(Side::Out, bridge());
    let six = wanted.ipv6();
    let path_mtu = versions(six).map(|version| rule([to(), When::PathMtu(version)], Then::Accept));
    let ours = wanted.nets().into_iter().filter(|net| six || matches!(net, IpNet::V4(_)));
    let away = ours.map(|net| rule([When::Source(net), When::NotInterface(Side::Out, bridge())], Then::Masquerade));
    [
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
    ]
}
