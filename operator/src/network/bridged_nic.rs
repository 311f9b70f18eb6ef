//! The identity of a machine on a bridge of the host. A DHCP server there gives it its address.

use std::net::Ipv4Addr;

use agentvm_core::network::Wire;
use agentvm_hypervisor::MachineRecord;
use agentvm_types::Mac;

use super::Network;

/// A machine whose address a DHCP server gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgedNic {
    pub mac: Mac,
    /// The pool's resolvers come before the offered ones: in private ranges the rules pass DNS to
    /// these only.
    pub resolvers: Vec<Ipv4Addr>,
}

impl Network {
    /// `None` for machines of our own network, or of none.
    pub fn bridged_nic(&self, record: &MachineRecord) -> Option<BridgedNic> {
        let nic = record.nic.as_ref()?;
        let Wire::Bridge { .. } = nic.wire else { return None };
        Some(BridgedNic {
            mac: nic.mac,
            resolvers: self.inner.policies.resolvers(&record.owner_uid),
        })
    }
}

#[cfg(test)]
mod tests {
    use agentvm_types::{Nonce, OwnerUid, Token};
    use std::sync::Arc;

    use agentvm_core::{
        names::DomainName,
        network::{Nic, Subnet},
    };
    use agentvm_hypervisor::{LinkApi as _, MachineKind, fake::FakeHypervisor};

    use super::*;

    fn record(nic: Option<Nic>) -> MachineRecord {
        MachineRecord {
            name: DomainName::from_recorded("vm-0"),
            instance: agentvm_core::names::InstanceId::for_state_dir("/links-test"),
            kind: MachineKind::Pool,
            namespace: String::new(),
            owner: String::new(),
            owner_uid: OwnerUid::new("pool"),
            slot: 0,
            golden: agentvm_core::names::GoldenKey::derive(&["links"]),
            nonce: Nonce::from_bytes([1; 16]),
            token: Token::default(),
            created: 0,
            nic,
        }
    }

    #[tokio::test]
    async fn a_machine_on_a_bridge_is_told_its_mac_and_its_pools_resolvers_and_no_address() {
        let folder = tempfile::tempdir().unwrap();
        let fake = FakeHypervisor::open(folder.path(), "/nonexistent".into());
        let subnet: Subnet = fake.subnet().await.unwrap();
        let instance = fake.instance();
        let network = Network::new(Arc::new(fake), instance.clone(), vec![]);
        let (defaults, profile) =
            (agentvm_core::defaults::Defaults::default(), agentvm_crds::Profile::Standard);
        let mut policy = agentvm_core::network::policy(None, None, 1, &defaults, profile).unwrap();
        policy.resolvers = vec![Ipv4Addr::new(203, 0, 113, 53)];
        network.set_policy(&OwnerUid::new("pool"), policy.clone()).await.unwrap();
        let bridged = Nic::bridge(&instance, &DomainName::from_recorded("vm-0"), "br0");
        let told = network.bridged_nic(&record(Some(bridged.clone()))).unwrap();
        assert_eq!((told.mac.bytes(), told.resolvers), (bridged.mac.bytes(), policy.resolvers));
        assert_eq!(network.guest_network(&record(Some(bridged))), None);
        let nat = Nic::nat(&instance, &subnet, subnet.machines().next().unwrap());
        assert_eq!(
            (network.bridged_nic(&record(Some(nat))), network.bridged_nic(&record(None))),
            (None, None)
        );
    }
}
