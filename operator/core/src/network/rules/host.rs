//! The host itself: machines reach none of its addresses, and it begins nothing with them. What leaves wears its address.

use super::Wanted;
use super::ir::{Chain, Side, Then, When, rule};
use super::names::REFUSE;

pub(super) fn chains(wanted: &Wanted<'_>) -> [Chain; 3] {
    let bridge = || wanted.subnet.bridge.clone();
    let from = || When::Interface(Side::In, bridge());
    let to = || When::Interface(Side::Out, bridge());
    let away = [When::Source(wanted.subnet.net()), When::NotInterface(Side::Out, bridge())];
    [
        Chain::base(
            "to_host",
            "type filter hook input priority filter - 10",
            vec![rule([from()], Then::Goto(REFUSE.into()))],
        ),
        Chain::base(
            "from_host",
            "type filter hook output priority filter - 10",
            vec![rule([to(), When::PathMtu], Then::Accept), rule([to()], Then::Drop)],
        ),
        Chain::base("leaving_host", "type nat hook postrouting priority srcnat", vec![rule(away, Then::Masquerade)]),
    ]
}
