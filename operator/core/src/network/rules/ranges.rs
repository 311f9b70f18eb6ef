//! Which addresses nobody reaches by accident, and which nobody reaches at all.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Never, whatever a policy says: no address of another machine is in them, or the host's own and the cloud's metadata are.
const NOWHERE: [(Ipv4Addr, u8); 5] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Only by a network that lies within one of them.
const PRIVATE: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

fn nets(list: &[(Ipv4Addr, u8)]) -> Vec<Ipv4Net> {
    list.iter().filter_map(|(address, prefix)| Ipv4Net::new(*address, *prefix).ok()).collect()
}

/// Ranges that no policy opens.
pub fn nowhere() -> Vec<Ipv4Net> {
    nets(&NOWHERE)
}

/// Ranges that a policy only opens by name.
pub fn private() -> Vec<Ipv4Net> {
    nets(&PRIVATE)
}

/// Whether a network opens (part of) a private range: it was written for that range and none but it.
pub fn names_private(net: &Ipv4Net) -> bool {
    private().iter().any(|range| range.contains(net))
}

/// The same addresses in as few networks as can be: nft takes no overlapping ones.
pub(super) fn merged(nets: impl IntoIterator<Item = Ipv4Net>) -> Vec<Ipv4Net> {
    let nets: Vec<Ipv4Net> = nets.into_iter().map(|net| net.trunc()).collect();
    let mut merged = Ipv4Net::aggregate(&nets);
    merged.sort();
    merged
}
