//! The network device of one machine: names and addresses that are derived, never drawn.

use agentvm_types::OwnerUid;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use super::subnet::{ULA_PREFIX, gateway6, ula};
use super::{Mac, Subnet, Table, derive_mac};
use crate::names::{DomainName, InstanceId, short_hash};

/// A machine's network device, as it is kept with the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nic {
    /// The host's end of the wire. Up: the machine is connected.
    pub tap: String,
    pub mac: Mac,
    pub wire: Wire,
}

/// The thing that the host's end is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wire {
    /// The installation's own bridge; the address is the machine's for as long as it lives.
    Nat {
        address: Ipv4Addr,
        prefix: u8,
        gateway: Ipv4Addr,
        /// Where its pool asks for IPv6.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ipv6: Option<Ipv6Addr>,
    },
    /// A bridge of the host. A DHCP server gives the addresses there.
    Bridge { bridge: String },
}

/// A machine's device, and the owner of its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub nic: Nic,
    /// UID of the pool, or of the golden snapshot while its template is set up.
    pub owner_uid: OwnerUid,
}

impl Nic {
    /// The device of the machine that has this address in the installation's subnet.
    pub fn nat(instance: &InstanceId, subnet: &Subnet, address: Ipv4Addr) -> Self {
        let [.., last] = address.octets();
        Self {
            tap: format!("{}{last}", Table::of(instance).tap_prefix()),
            mac: derive_mac(&["nat", instance.as_str(), &address.to_string()]),
            wire: Wire::Nat { address, prefix: subnet.prefix, gateway: subnet.gateway, ipv6: None },
        }
    }

    /// Adds an IPv6 address: the installation's network, and the last number of the IPv4 address.
    pub fn dual(instance: &InstanceId, subnet: &Subnet, address: Ipv4Addr) -> Self {
        let mut nic = Self::nat(instance, subnet, address);
        if let Wire::Nat { ipv6, .. } = &mut nic.wire {
            let [.., last] = address.octets();
            *ipv6 = Some(Ipv6Addr::from_bits(ula(instance).network().to_bits() | u128::from(last)));
        }
        nic
    }

    /// The device of a machine on a bridge of the host.
    pub fn bridge(instance: &InstanceId, machine: &DomainName, bridge: &str) -> Self {
        // Seven digits, so that it is never the last octet of an address. Linux takes 15 characters
        // at most.
        let slot = short_hash(&["tap", machine.as_str()], 7);
        Self {
            tap: format!("{}{slot}", Table::of(instance).tap_prefix()),
            mac: derive_mac(&["bridge", instance.as_str(), machine.as_str()]),
            wire: Wire::Bridge { bridge: bridge.to_owned() },
        }
    }

    /// The machine's address, where it has one of ours.
    pub fn address(&self) -> Option<Ipv4Addr> {
        match self.wire {
            Wire::Nat { address, .. } => Some(address),
            Wire::Bridge { .. } => None,
        }
    }

    /// The machine's IPv6 address, where it has one.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        match self.wire {
            Wire::Nat { ipv6, .. } => ipv6,
            Wire::Bridge { .. } => None,
        }
    }

    /// Network and gateway of an IPv6 address of ours.
    pub fn around(address: Ipv6Addr) -> (Ipv6Net, Ipv6Addr) {
        let net = Ipv6Net::new(address, ULA_PREFIX).unwrap_or_else(|_| address.into()).trunc();
        (net, gateway6(net))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentvm_types::PoolUid;

    #[test]
    fn names_fit_into_an_interface_and_are_told_apart() {
        let instance = InstanceId::for_state_dir("/var/lib/agentvm");
        let subnet = Subnet {
            bridge: "agentvm0".into(),
            gateway: Ipv4Addr::new(192, 168, 101, 1),
            prefix: 24,
        };
        let nat = Nic::nat(&instance, &subnet, Ipv4Addr::new(192, 168, 101, 254));
        let slot = DomainName::for_slot(&instance, &PoolUid::new("pool"), 3);
        let bridge = Nic::bridge(&instance, &slot, "br0");
        for nic in [&nat, &bridge] {
            assert!(nic.tap.len() <= 15, "{}", nic.tap);
            assert!(nic.tap.starts_with(&Table::of(&instance).tap_prefix()));
        }
        assert!(nat.tap.ends_with("-254"));
        assert_ne!(nat.mac, bridge.mac);
        assert_eq!(bridge, Nic::bridge(&instance, &slot, "br0"));
        let dual = Nic::dual(&instance, &subnet, Ipv4Addr::new(192, 168, 101, 254));
        assert_eq!((nat.ipv6(), &dual.tap, dual.mac), (None, &nat.tap, nat.mac));
        let (net, gateway) = Nic::around(dual.ipv6().unwrap());
        assert_eq!((net, gateway), (ula(&instance), gateway6(net)));
        assert!(
            gateway.to_string().ends_with("::1")
                && dual.ipv6().unwrap().to_string().ends_with("::fe")
        );
        for nic in [nat, dual] {
            let text = serde_json::to_string(&nic).unwrap();
            assert_eq!(serde_json::from_str::<Nic>(&text).unwrap(), nic);
        }
        let before = r#"{"tap":"t","mac":"52:54:00:00:00:01","wire":{"Nat":{"address":"192.168.101.10","prefix":24,"gateway":"192.168.101.1"}}}"#;
        assert_eq!(
            serde_json::from_str::<Nic>(before).unwrap().ipv6(),
            None,
            "what an earlier version wrote"
        );
    }
}
