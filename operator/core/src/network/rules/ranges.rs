//! The ranges that need a named `allow`, and the ranges that no policy opens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::ir::{Version, When};

/// Never open, whatever a policy says: they hold no address of another machine, or hold the host's
/// own addresses and the cloud's metadata.
const NOWHERE: [(Ipv4Addr, u8); 5] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Only by a network that lies within one of them.
const PRIVATE: [(Ipv4Addr, u8); 7] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    // Azure's platform. It gives secrets to every program on its host, and looks public. It is also
    // the resolver there, so a policy can name it.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    // Protocol assignments: the metadata of a cloud was in this range.
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // The range for benchmarks of networks: it is nowhere in the internet.
    (Ipv4Addr::new(198, 18, 0, 0), 15),
];

/// The first sixteen bits of unusable IPv6 addresses: everything that is neither `2000::/3`, the
/// internet, nor private. The first range has loopback, IPv4 in disguise and NAT64; the last one
/// has link-local, site-local and multicast.
const NOWHERE_6: [(u16, u8); 8] = [
    (0, 3),
    (0x4000, 2),
    (0x8000, 2),
    (0xc000, 3),
    (0xe000, 4),
    (0xf000, 5),
    (0xf800, 6),
    (0xfe00, 7),
];
/// Teredo and 6to4: within the internet, and tunnels to any IPv4 address.
const TUNNELS: [(Ipv6Addr, u8); 2] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
];

/// Protocol assignments, as in IPv4, and unique local addresses (RFC 4193), where clouds have their
/// metadata.
const PRIVATE_6: [(Ipv6Addr, u8); 2] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
];

fn nets(list: impl IntoIterator<Item = (IpAddr, u8)>) -> Vec<IpNet> {
    list.into_iter().filter_map(|(address, prefix)| IpNet::new(address, prefix).ok()).collect()
}

fn four((address, prefix): (Ipv4Addr, u8)) -> (IpAddr, u8) {
    (address.into(), prefix)
}

fn six((address, prefix): (Ipv6Addr, u8)) -> (IpAddr, u8) {
    (address.into(), prefix)
}

/// Ranges that no policy opens.
pub fn nowhere() -> Vec<IpNet> {
    let first = |(first, prefix)| six((Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), prefix));
    nets(NOWHERE.map(four).into_iter().chain(NOWHERE_6.map(first)).chain(TUNNELS.map(six)))
}

/// Ranges that a policy only opens by name.
pub fn private() -> Vec<IpNet> {
    nets(PRIVATE.map(four).into_iter().chain(PRIVATE_6.map(six)))
}

/// Does a network open (part of) a private range? It must lie within that range.
pub fn names_private(net: &IpNet) -> bool {
    private().iter().any(|range| range.contains(net))
}

/// These addresses in as few networks as possible, IPv4 first: nft takes no overlapping ones.
fn merged(nets: impl IntoIterator<Item = IpNet>) -> Vec<IpNet> {
    let mut merged = IpNet::aggregate(&nets.into_iter().map(|net| net.trunc()).collect());
    merged.sort();
    merged
}

/// To one of these, in a condition for each version of IP; IPv6 only where it is asked for.
pub(super) fn to(
    nets: impl IntoIterator<Item = IpNet>,
    ipv6: bool,
) -> impl Iterator<Item = (Version, When)> {
    let (four, six) =
        merged(nets).into_iter().partition::<Vec<_>, _>(|net| matches!(net, IpNet::V4(_)));
    let both =
        [(Version::Four, four), (Version::Six, if ipv6 { six } else { Vec::new() })].into_iter();
    both.filter(|(_, nets)| !nets.is_empty())
        .map(|(version, nets)| (version, When::Destination(nets)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_ipv6_only_the_internet_and_what_is_named_can_be_reached() {
        let within = |nets: &[IpNet], text: &str| {
            let address: IpAddr = text.parse().unwrap();
            nets.iter().any(|net| net.contains(&address))
        };
        let never = "::1 ::ffff:10.0.0.1 64:ff9b::a00:1 64:ff9b:1::1 100::1 1fff::1 4000::1 \
            5f00::1 8000::1 bfff::1 c000::1 \
                     dfff::1 efff::1 f7ff::1 fbff::1 fe80::1 febf::1 fec0::1 ff02::1 ffff::1 \
                     2002:a00:1::1 2001:0:1::1";
        assert!(never.split_whitespace().all(|text| within(&nowhere(), text)));
        let public = ["2000::1", "2001:200::1", "2001:db8::1", "2003::1", "3fff:ffff::1"];
        assert!(public.iter().all(|text| !within(&nowhere(), text) && !within(&private(), text)));
        // Some clouds' metadata among them.
        let private_ones =
            ["2001:1::1", "2001:1ff::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fdff::1"];
        assert!(
            private_ones.iter().all(|text| !within(&nowhere(), text) && within(&private(), text))
        );
    }

    #[test]
    fn what_looks_public_and_is_a_clouds_own_is_private_and_its_neighbours_are_not() {
        let is_private =
            |text: &str| private().iter().any(|net| net.contains(&text.parse::<IpAddr>().unwrap()));
        assert!(
            ["168.63.129.16", "192.0.0.192", "100.100.100.200", "198.18.0.1", "198.19.255.254"]
                .map(is_private)
                == [true; 5]
        );
        let public = [
            "168.63.129.15",
            "168.63.129.17",
            "192.0.1.1",
            "192.0.2.1",
            "198.17.255.255",
            "198.20.0.1",
        ];
        assert!(public.map(is_private) == [false; 6]);
        assert!(
            names_private(&"168.63.129.16/32".parse().unwrap())
                && !names_private(&"168.63.0.0/16".parse().unwrap())
        );
    }
}
