//! The attachment of a pool's machines.

use std::{net::Ipv4Addr, path::Path};

use agentvm_core::{
    network::{Nic, Wire},
    pool::ValidPool,
};
use agentvm_crds::NetworkMode;

/// The thing that a machine's network device is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// The machine has no device.
    Isolated,
    /// The installation's own bridge.
    Nat,
    /// NAT, with an IPv6 address too.
    DualStack,
    /// A bridge of the host.
    Bridge(String),
}

/// The network settings of a pool's machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolNetwork {
    pub attachment: Attachment,
    /// The name servers in a machine's `/etc/resolv.conf`.
    pub resolvers: Vec<Ipv4Addr>,
}

impl Attachment {
    /// Whether a machine with this device has this attachment.
    pub fn fits(&self, nic: Option<&Nic>) -> bool {
        match (self, nic.map(|nic| &nic.wire)) {
            (Self::Isolated, None)
            | (Self::Nat, Some(Wire::Nat { ipv6: None, .. }))
            | (Self::DualStack, Some(Wire::Nat { ipv6: Some(_), .. })) => true,
            (Self::Bridge(wanted), Some(Wire::Bridge { bridge })) => wanted == bridge,
            _ => false,
        }
    }
}

impl PoolNetwork {
    pub fn of(pool: &ValidPool) -> Self {
        let attachment = match (pool.network_mode, &pool.bridge) {
            (NetworkMode::NatFiltered, _) if pool.ipv6 => Attachment::DualStack,
            (NetworkMode::NatFiltered, _) => Attachment::Nat,
            (NetworkMode::Bridge, Some(bridge)) => Attachment::Bridge(bridge.clone()),
            // A pool without a bridge isn't valid with that mode.
            (NetworkMode::Isolated | NetworkMode::Bridge, _) => Attachment::Isolated,
        };
        let resolvers =
            if attachment == Attachment::Isolated { vec![] } else { pool.policy(0).resolvers };
        Self { attachment, resolvers }
    }
}

/// Whether the host has a bridge of this name.
pub fn bridge_exists(interfaces: &Path, name: &str) -> bool {
    interfaces.join(name).join("bridge").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_is_an_interface_that_is_one() {
        let interfaces = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(interfaces.path().join("br0/bridge")).unwrap();
        std::fs::create_dir_all(interfaces.path().join("eth0")).unwrap();
        let exists = |name| bridge_exists(interfaces.path(), name);
        assert!(exists("br0") && !exists("eth0") && !exists("br1"));
    }

    #[test]
    fn a_machine_fits_where_it_is_plugged_in() {
        let wire =
            |wire| Nic { tap: "t".into(), mac: agentvm_core::network::derive_mac(&["m"]), wire };
        let bridge = wire(Wire::Bridge { bridge: "br0".into() });
        let gateway = Ipv4Addr::new(192, 168, 101, 1);
        let nat = wire(Wire::Nat { address: gateway, prefix: 24, gateway, ipv6: None });
        assert!(
            Attachment::Isolated.fits(None)
                && Attachment::Nat.fits(Some(&nat))
                && Attachment::Bridge("br0".into()).fits(Some(&bridge))
        );
        assert!(
            !Attachment::Isolated.fits(Some(&nat))
                && !Attachment::Nat.fits(None)
                && !Attachment::Nat.fits(Some(&bridge))
        );
        assert!(!Attachment::Bridge("br1".into()).fits(Some(&bridge)));
        let dual = wire(Wire::Nat {
            address: gateway,
            prefix: 24,
            gateway,
            ipv6: Some(std::net::Ipv6Addr::LOCALHOST),
        });
        assert!(Attachment::DualStack.fits(Some(&dual)));
        assert!(
            !Attachment::DualStack.fits(Some(&nat))
                && !Attachment::Nat.fits(Some(&dual))
                && !Attachment::DualStack.fits(None)
        );
    }
}
