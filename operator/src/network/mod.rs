//! The network of this node's machines: their addresses, their attachment, the policies of their
//! owners, and the flows of their runs.
//!
//! ```text
//! pool ─► set_policy ─► the policy of this owner ─► host
//!         (before a machine of the pool is connected, and whenever the spec changes)
//! machine: nic (an address, for as long as it lives) ─► REHYDRATE ─► connect ─► … ─► disconnect
//! run: flows ─► flows::FlowRecorder ─► log lines, Events, metrics, the run's status
//! ```
//! It fails closed: without a policy in force no link is opened, and a machine whose link doesn't
//! open isn't lent.

mod addresses;
mod attachment;
mod bridged_nic;
pub mod flows;
mod policies;
mod resolvers;

use std::{collections::BTreeMap, sync::Arc};

use agentvm_core::{
    names::{DomainName, InstanceId},
    network::{Nic, Policy, Subnet, Wire},
};
use agentvm_guest_agent::protocol::{GuestIpv6, GuestNetwork};
use agentvm_hypervisor::{HvError, Hypervisor, MachineRecord};
use agentvm_types::OwnerUid;
use ipnet::IpNet;
use tokio::sync::OnceCell;

pub use attachment::{Attachment, PoolNetwork, bridge_exists};
pub use bridged_nic::BridgedNic;
pub use resolvers::{ResolverFiles, host_resolver};

use addresses::Addresses;
use policies::Policies;

#[derive(Debug)]
struct Inner {
    hv: Arc<dyn Hypervisor>,
    instance: InstanceId,
    subnet: OnceCell<Subnet>,
    addresses: Addresses,
    policies: Policies,
}

/// The handle that machines, goldens and controllers use.
#[derive(Clone, Debug)]
pub struct Network {
    inner: Arc<Inner>,
}

impl Network {
    /// `deny_list`: destinations that no policy opens.
    pub fn new(hv: Arc<dyn Hypervisor>, instance: InstanceId, deny_list: Vec<IpNet>) -> Self {
        let policies = Policies::new(hv.clone(), deny_list);
        let (subnet, addresses) = (OnceCell::new(), Addresses::default());
        Self { inner: Arc::new(Inner { hv, instance, subnet, addresses, policies }) }
    }

    /// Returns the network device of a machine that is to be made; `None` where it has none.
    /// A name gets its device again.
    pub async fn nic(
        &self,
        name: &DomainName,
        attachment: &Attachment,
    ) -> Result<Option<Nic>, HvError> {
        match attachment {
            Attachment::Isolated => Ok(None),
            Attachment::Bridge(bridge) => Ok(Some(Nic::bridge(&self.inner.instance, name, bridge))),
            Attachment::Nat | Attachment::DualStack => {
                let subnet = self.subnet().await?;
                let address = self.inner.addresses.lease(&subnet, name).ok_or_else(|| {
                    HvError::NoCapacity { what: format!("connect {name}"), detail: full(&subnet) }
                })?;
                let make = if *attachment == Attachment::DualStack { Nic::dual } else { Nic::nat };
                Ok(Some(make(&self.inner.instance, &subnet, address)))
            }
        }
    }

    /// Keeps the address of a machine that existed before this process: no other machine gets it.
    pub fn take_over(&self, record: &MachineRecord) {
        if let Some(address) = record.nic.as_ref().and_then(Nic::address) {
            self.inner.addresses.keep(&record.name, address);
        }
    }

    /// Frees the address of a machine that is gone.
    pub fn free_address(&self, name: &DomainName) {
        self.inner.addresses.free(name);
    }

    /// Returns how many more machines find an address, and the message for those that find none.
    /// `None` until the host was asked for the subnet.
    pub fn room(&self) -> Option<(u32, String)> {
        let subnet = self.inner.subnet.get()?;
        let room = subnet.machines().count().saturating_sub(self.inner.addresses.taken());
        Some((u32::try_from(room).unwrap_or(u32::MAX), full(subnet)))
    }

    /// Returns the network settings that a machine is given. `None` where it isn't on our own
    /// bridge; for a bridge of the host, see [`Network::bridged_nic`].
    pub fn guest_network(&self, record: &MachineRecord) -> Option<GuestNetwork> {
        let nic = record.nic.as_ref()?;
        let Wire::Nat { address, prefix, gateway, ipv6 } = nic.wire else { return None };
        Some(GuestNetwork {
            mac: nic.mac,
            address,
            prefix,
            gateway,
            gateway_mac: self.inner.hv.gateway_mac(),
            resolvers: self.inner.policies.resolvers(&record.owner_uid),
            ipv6: ipv6.map(|address| {
                let (net, gateway) = Nic::around(address);
                GuestIpv6 { address, prefix: net.prefix_len(), gateway }
            }),
        })
    }

    /// Has the host route IPv6 for machines, before a pool's machines have it. The error says why
    /// the host doesn't.
    pub async fn enable_ipv6(&self) -> Result<(), HvError> {
        self.inner.hv.ipv6().await
    }

    /// Lets a machine that has a network device use it. Fails where the policy of its owner isn't
    /// in force.
    pub async fn connect(&self, record: &MachineRecord) -> Result<(), HvError> {
        if record.nic.is_none() {
            return Ok(());
        }
        self.inner.policies.settle(&record.owner_uid).await?;
        self.inner.hv.open_link(&record.name).await
    }

    /// The machine can't use its network device any more.
    pub async fn disconnect(&self, record: &MachineRecord) -> Result<(), HvError> {
        if record.nic.is_none() { Ok(()) } else { self.inner.hv.close_link(&record.name).await }
    }

    /// Holds the machines of an owner to this policy, also those that run. Returns when the policy
    /// is in force.
    pub async fn set_policy(&self, owner_uid: &OwnerUid, policy: Policy) -> Result<(), HvError> {
        self.inner.policies.insert(owner_uid, policy)?;
        self.inner.policies.settle(owner_uid).await
    }

    /// Removes the policy of an owner: its machines have no network.
    pub async fn drop_policy(&self, owner_uid: &OwnerUid) -> Result<(), HvError> {
        if !self.inner.policies.remove(owner_uid) {
            return Ok(());
        }
        self.inner.policies.settle(owner_uid).await
    }

    /// Sets the policies of all owners at once, when the host is taken over. Machines that existed
    /// before are cut off if their owner has no policy among these.
    pub async fn replace_policies(
        &self,
        policies: BTreeMap<OwnerUid, Policy>,
    ) -> Result<(), HvError> {
        let connected = self.inner.addresses.taken() > 0;
        self.inner.policies.replace(policies, connected);
        self.inner.policies.settle_gone().await
    }

    /// Returns the owners of policies.
    pub fn policy_owners(&self) -> Vec<OwnerUid> {
        self.inner.policies.owners()
    }

    /// Removes the policies of owners that don't exist, after the last of their machines is gone.
    pub async fn retain_policies(&self, exists: impl Fn(&OwnerUid) -> bool) -> Result<(), HvError> {
        self.inner.policies.retain(exists);
        self.inner.policies.settle_gone().await
    }

    /// Returns the generation of the owner's policy that is in force on this host.
    pub fn generation_in_force(&self, owner_uid: &OwnerUid) -> Option<i64> {
        self.inner.policies.generation_in_force(owner_uid)
    }

    /// Returns the subnet of this installation's machines, once the host was asked for it.
    pub fn known_subnet(&self) -> Option<&Subnet> {
        self.inner.subnet.get()
    }

    /// Returns the subnet of this installation's machines. Makes their network where it is absent.
    pub async fn subnet(&self) -> Result<Subnet, HvError> {
        self.inner.subnet.get_or_try_init(|| self.inner.hv.subnet()).await.cloned()
    }
}

fn full(subnet: &Subnet) -> String {
    let machines = subnet.machines().count();
    format!("all {machines} addresses of {} are taken by machines with a network", subnet.net())
}

#[cfg(test)]
mod tests {
    use agentvm_hypervisor::fake::FakeHypervisor;

    use super::*;

    fn network(folder: &std::path::Path) -> Network {
        let fake = FakeHypervisor::open(folder, "/nonexistent".into());
        let instance = fake.instance();
        Network::new(Arc::new(fake), instance, vec![])
    }

    fn name(slot: usize) -> DomainName {
        DomainName::from_recorded(format!("vm-{slot}"))
    }

    #[tokio::test]
    async fn a_subnet_runs_out_and_says_so_and_what_is_freed_is_given_again() {
        let folder = tempfile::tempdir().unwrap();
        let network = network(folder.path());
        assert_eq!(network.room(), None, "nobody has asked for the subnet");
        let mut taken = std::collections::HashSet::new();
        for slot in 0..245 {
            let nic = network.nic(&name(slot), &Attachment::Nat).await.unwrap().unwrap();
            assert_eq!(
                network.nic(&name(slot), &Attachment::Nat).await.unwrap(),
                Some(nic.clone()),
                "asked again"
            );
            assert!(taken.insert(nic.address().unwrap()));
        }
        let why = network.nic(&name(245), &Attachment::Nat).await.unwrap_err();
        assert!(
            matches!(&why, HvError::NoCapacity { detail,
                .. } if detail.contains("192.168.101.0/24")),
            "{why}"
        );
        let (room, full) = network.room().unwrap();
        assert!(room == 0 && full.contains("all 245 addresses of 192.168.101.0/24"), "{full}");
        network.free_address(&name(7));
        assert!(network.nic(&name(245), &Attachment::Nat).await.unwrap().is_some());
        // Others need no address.
        assert_eq!(network.nic(&name(300), &Attachment::Isolated).await.unwrap(), None);
        assert!(
            network.nic(&name(301), &Attachment::Bridge("br0".into())).await.unwrap().is_some()
        );
    }

    #[tokio::test]
    async fn what_is_in_force_is_what_the_host_was_told() {
        let folder = tempfile::tempdir().unwrap();
        let network = network(folder.path());
        let defaults = agentvm_core::defaults::Defaults::default();
        let policy = |generation| {
            agentvm_core::network::policy(
                None,
                None,
                generation,
                &defaults,
                agentvm_crds::Profile::Standard,
            )
            .unwrap()
        };
        let pool = OwnerUid::new("pool");
        assert_eq!(network.generation_in_force(&pool), None);
        network.set_policy(&pool, policy(3)).await.unwrap();
        assert_eq!(
            (
                network.generation_in_force(&pool),
                network.generation_in_force(&OwnerUid::new("other"))
            ),
            (Some(3), None)
        );
        network.retain_policies(|uid| *uid != pool).await.unwrap();
        assert_eq!(network.generation_in_force(&pool), None);
    }
}
