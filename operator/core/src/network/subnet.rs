//! The addresses of one installation's machines.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::names::{InstanceId, short_hash};

/// The host part of the first and of the last machine.
const FIRST: u32 = 10;
const LAST: u32 = 254;

/// Bits of an installation's IPv6 network.
pub(super) const ULA_PREFIX: u8 = 64;

/// The IPv6 network of an installation's machines (RFC 4193). It has forty bits of its own, so that
/// two hosts that meet have different ones.
pub fn ula(instance: &InstanceId) -> Ipv6Net {
    let own =
        u128::from_str_radix(&short_hash(&["ula", instance.as_str()], 10), 16).unwrap_or_default();
    let network = Ipv6Addr::from_bits((0xfd << 120) | (own << 80));
    Ipv6Net::new(network, ULA_PREFIX).unwrap_or_else(|_| network.into())
}

/// The gateway of this network's machines.
pub fn gateway6(net: Ipv6Net) -> Ipv6Addr {
    Ipv6Addr::from_bits(net.network().to_bits() | 1)
}

/// The installation's own bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub bridge: String,
    /// The bridge's address: machines send packets for other networks there.
    pub gateway: Ipv4Addr,
    pub prefix: u8,
}

impl Subnet {
    /// All of it, as in `192.168.101.0/24`.
    pub fn net(&self) -> Ipv4Net {
        Ipv4Net::new(self.gateway, self.prefix).unwrap_or_else(|_| self.gateway.into()).trunc()
    }

    /// The addresses that machines can have: `.10` to `.254`.
    pub fn machines(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let base = u32::from(self.net().network());
        (FIRST..=LAST).map(move |host| Ipv4Addr::from(base + host))
    }
}

/// The lowest address that no machine has.
pub fn free_address<S: BuildHasher>(
    subnet: &Subnet,
    taken: &HashSet<Ipv4Addr, S>,
) -> Option<Ipv4Addr> {
    subnet.machines().find(|address| !taken.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_has_an_ipv6_network_of_its_own() {
        let [one, other] =
            ["/var/lib/agentvm", "/srv/agentvm"].map(|dir| ula(&InstanceId::for_state_dir(dir)));
        assert!(one != other && one == ula(&InstanceId::for_state_dir("/var/lib/agentvm")));
        for net in [one, other] {
            let octets = net.network().octets();
            assert_eq!(
                (octets[0], &octets[6..], net.prefix_len()),
                (0xfd, &[0; 10][..], 64),
                "{net}"
            );
        }
    }

    #[test]
    fn addresses_are_given_from_below_and_run_out() {
        let subnet = Subnet {
            bridge: "agentvm0".into(),
            gateway: Ipv4Addr::new(192, 168, 101, 1),
            prefix: 24,
        };
        assert_eq!(subnet.net().to_string(), "192.168.101.0/24");
        let mut taken = HashSet::new();
        for host in 10..=254 {
            let next = free_address(&subnet, &taken);
            assert_eq!(next, Some(Ipv4Addr::new(192, 168, 101, host)));
            taken.extend(next);
        }
        assert_eq!(free_address(&subnet, &taken), None);
        taken.remove(&Ipv4Addr::new(192, 168, 101, 77));
        assert_eq!(free_address(&subnet, &taken), Some(Ipv4Addr::new(192, 168, 101, 77)));
    }
}
