//! The choice of names and addresses for the network of an installation's machines.
//!
//! The first installation of a host has the well-known names and addresses. Another one takes names
//! of its own and the next free addresses.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::Subnet;
use crate::names::InstanceId;

const FIRST_NAME: &str = "agent-nat-filtered";
/// The bridge of the first installation.
pub const FIRST_BRIDGE: &str = "agentvm0";
/// The third number of 192.168.x.0/24.
const FIRST_NET: u8 = 101;
const OTHER_NETS: std::ops::RangeInclusive<u8> = 102..=199;
/// The prefix length of all machines' addresses.
pub const SUBNET_PREFIX: u8 = 24;
/// The message for a host on which there is no choice.
pub const ALL_TAKEN: &str = "all of 192.168.101.0/24 to 192.168.199.0/24 are in use";
/// The longest name of a network interface.
const MAX_INTERFACE_NAME: usize = 15;

/// The network of an installation's machines: its name for people, its bridge, its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineNetwork {
    pub name: String,
    pub subnet: Subnet,
}

/// The names and addresses of a host that others have.
#[derive(Debug, Default)]
pub struct Taken {
    pub names: BTreeSet<String>,
    pub bridges: BTreeSet<String>,
    pub nets: Vec<Ipv4Net>,
}

impl Taken {
    fn overlaps(&self, net: Ipv4Net) -> bool {
        self.nets
            .iter()
            .any(|taken| taken.contains(&net.network()) || net.contains(&taken.network()))
    }
}

/// The networks that are free, in the order in which they are tried.
pub fn free_networks(instance: &InstanceId, taken: &Taken) -> Vec<MachineNetwork> {
    let subnet = |bridge: &str, third: u8| Subnet {
        bridge: bridge.to_owned(),
        gateway: Ipv4Addr::new(192, 168, third, 1),
        prefix: SUBNET_PREFIX,
    };
    let first_names = !taken.names.contains(FIRST_NAME) && !taken.bridges.contains(FIRST_BRIDGE);
    let first = first_names.then(|| MachineNetwork {
        name: FIRST_NAME.to_owned(),
        subnet: subnet(FIRST_BRIDGE, FIRST_NET),
    });
    let bridge: String = format!("avmb{instance}").chars().take(MAX_INTERFACE_NAME).collect();
    let other = |third| MachineNetwork {
        name: format!("{FIRST_NAME}-{instance}"),
        subnet: subnet(&bridge, third),
    };
    let all = first.into_iter().chain(OTHER_NETS.map(other));
    all.filter(|network| !taken.overlaps(network.subnet.net())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> InstanceId {
        InstanceId::for_state_dir("/var/lib/agentvm")
    }

    #[test]
    fn the_first_has_the_names_that_people_know_and_others_their_own() {
        let bridge = format!("avmb{}", id());
        assert!(bridge.len() <= 15, "{bridge}");
        let names = BTreeSet::from([FIRST_NAME.to_owned()]);
        let nets = vec!["192.168.100.0/22".parse().unwrap(), "192.168.105.7/32".parse().unwrap()];
        let all = free_networks(&id(), &Taken { names, nets, ..Taken::default() });
        assert_eq!(all[0].name, format!("{FIRST_NAME}-{}", id()));
        assert_eq!(
            all[0].subnet,
            Subnet { bridge, gateway: Ipv4Addr::new(192, 168, 104, 1), prefix: 24 }
        );
        assert_eq!(all[1].subnet.gateway, Ipv4Addr::new(192, 168, 106, 1));
    }

    proptest! {
        #[test]
        fn no_choice_overlaps_another_network_or_takes_its_names(
            others in prop::collection::vec((100_u8..=200, 16_u8..=32), 0..40),
            name: bool, bridge: bool,
        ) {
            let net = |(third, prefix)| Ipv4Net::new(Ipv4Addr::new(192, 168, third, 9), prefix);
            let taken = Taken {
                names: name.then(|| FIRST_NAME.to_owned()).into_iter().collect(),
                bridges: bridge.then(|| FIRST_BRIDGE.to_owned()).into_iter().collect(),
                nets: others.into_iter().map(|other| net(other).unwrap()).collect(),
            };
            let all = free_networks(&id(), &taken);
            for choice in &all {
                prop_assert!(!taken.names.contains(&choice.name));
                prop_assert!(!taken.bridges.contains(&choice.subnet.bridge));
                prop_assert!(choice.subnet.bridge.len() <= MAX_INTERFACE_NAME);
                let hosts: Vec<_> = choice.subnet.machines().collect();
                for net in &taken.nets {
                    prop_assert!(hosts.iter().all(|host| !net.contains(host)), "{net}");
                }
            }
        }
    }
}
