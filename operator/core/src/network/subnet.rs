//! The addresses of one installation's machines.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The host part of the first and of the last machine.
const FIRST: u32 = 10;
const LAST: u32 = 254;

/// The installation's own bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub bridge: String,
    /// The bridge's address: where machines send what leaves the subnet.
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
pub fn free_address<S: BuildHasher>(subnet: &Subnet, taken: &HashSet<Ipv4Addr, S>) -> Option<Ipv4Addr> {
    subnet.machines().find(|address| !taken.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_from_below_and_run_out() {
        let subnet = Subnet { bridge: "agentvm0".into(), gateway: Ipv4Addr::new(192, 168, 101, 1), prefix: 24 };
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
