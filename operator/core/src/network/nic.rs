//! The network device of one machine: names and addresses that are derived, never drawn.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Mac, Subnet, Table};
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

/// What the host's end is plugged into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wire {
    /// The installation's own bridge; the address is the machine's for as long as it lives.
    Nat { address: Ipv4Addr, prefix: u8, gateway: Ipv4Addr },
    /// A bridge of the host. Addresses there are none of our business.
    Bridge { bridge: String },
}

/// A machine's device, and whose policy holds for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub nic: Nic,
    /// UID of the pool, or of the golden snapshot while its template is set up.
    pub owner_uid: String,
}

impl Nic {
    /// The device of the machine that has this address in the installation's subnet.
    pub fn nat(instance: &InstanceId, subnet: &Subnet, address: Ipv4Addr) -> Self {
        let [.., last] = address.octets();
        Self {
            tap: format!("{}{last}", Table::of(instance).tap_prefix()),
            mac: Mac::derive(&["nat", instance.as_str(), &address.to_string()]),
            wire: Wire::Nat { address, prefix: subnet.prefix, gateway: subnet.gateway },
        }
    }

    /// The device of a machine on a bridge of the host.
    pub fn bridge(instance: &InstanceId, machine: &DomainName, bridge: &str) -> Self {
        // Seven digits, so that it is never the last octet of an address; 15 characters are all that Linux takes.
        let slot = short_hash(&["tap", machine.as_str()], 7);
        Self {
            tap: format!("{}{slot}", Table::of(instance).tap_prefix()),
            mac: Mac::derive(&["bridge", instance.as_str(), machine.as_str()]),
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_an_interface_and_are_told_apart() {
        let instance = InstanceId::for_state_dir("/var/lib/agentvm");
        let subnet = Subnet { bridge: "agentvm0".into(), gateway: Ipv4Addr::new(192, 168, 101, 1), prefix: 24 };
        let nat = Nic::nat(&instance, &subnet, Ipv4Addr::new(192, 168, 101, 254));
        let slot = DomainName::for_slot(&instance, "pool", 3);
        let bridge = Nic::bridge(&instance, &slot, "br0");
        for nic in [&nat, &bridge] {
            assert!(nic.tap.len() <= 15, "{}", nic.tap);
            assert!(nic.tap.starts_with(&Table::of(&instance).tap_prefix()));
        }
        assert!(nat.tap.ends_with("-254"));
        assert_ne!(nat.mac, bridge.mac);
        assert_eq!(bridge, Nic::bridge(&instance, &slot, "br0"));
        let text = serde_json::to_string(&nat).unwrap();
        assert_eq!(serde_json::from_str::<Nic>(&text).unwrap(), nat);
    }
}
