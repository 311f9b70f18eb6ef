//! The network of this node's machines: who has which address, how a pool's machines are plugged in, whose policy is in force.
//!
//! ```text
//! pool ─► police ─► every policy at once ─► host        (before a machine of it is connected, and whenever the spec changes)
//! machine: nic (an address of its own, for as long as it lives) ─► REHYDRATE ─► open ─► … ─► close
//! ```
//! It fails closed: without a policy in force no link is opened, and a machine whose link doesn't open isn't lent.

mod addresses;
mod plug;
mod policies;
mod resolvers;

use std::{collections::BTreeMap, sync::Arc};

use agentvm_core::{
    names::{DomainName, InstanceId},
    network::{Nic, Policy, Subnet, Wire},
};
use agentvm_guest_agent::protocol::{GuestNetwork, Mac};
use agentvm_hypervisor::{HvError, Hypervisor, MachineRecord};
use ipnet::Ipv4Net;
use tokio::sync::OnceCell;

pub use plug::{Plug, PoolNetwork, bridge_exists};
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
pub struct Links {
    inner: Arc<Inner>,
}

impl Links {
    /// `never`: what no policy opens.
    pub fn new(hv: Arc<dyn Hypervisor>, instance: InstanceId, never: Vec<Ipv4Net>) -> Self {
        let policies = Policies::new(hv.clone(), never);
        let (subnet, addresses) = (OnceCell::new(), Addresses::default());
        Self { inner: Arc::new(Inner { hv, instance, subnet, addresses, policies }) }
    }

    /// The network device of a machine that is to be made; none where it has none. The same one again for the same name.
    pub async fn nic(&self, name: &DomainName, plug: &Plug) -> Result<Option<Nic>, HvError> {
        match plug {
            Plug::Nothing => Ok(None),
            Plug::Bridge(bridge) => Ok(Some(Nic::bridge(&self.inner.instance, name, bridge))),
            Plug::Nat => {
                let subnet = self.subnet().await?;
                let address = self
                    .inner
                    .addresses
                    .lease(&subnet, name)
                    .ok_or_else(|| HvError::NoCapacity { what: format!("connect {name}"), detail: full(&subnet) })?;
                Ok(Some(Nic::nat(&self.inner.instance, &subnet, address)))
            }
        }
    }

    /// Of machines that were there before: their addresses are nobody else's.
    pub fn take_over(&self, record: &MachineRecord) {
        if let Some(address) = record.nic.as_ref().and_then(Nic::address) {
            self.inner.addresses.keep(&record.name, address);
        }
    }

    /// The machine is gone: its address is anybody's.
    pub fn free(&self, name: &DomainName) {
        self.inner.addresses.free(name);
    }

    /// How many more machines find an address, and what is to be said where none does. `None` before anybody had one.
    pub fn room(&self) -> Option<(u32, String)> {
        let subnet = self.inner.subnet.get()?;
        let room = subnet.machines().count().saturating_sub(self.inner.addresses.taken());
        Some((u32::try_from(room).unwrap_or(u32::MAX), full(subnet)))
    }

    /// What a machine is told of its network; nothing where it has none of ours.
    pub fn told(&self, record: &MachineRecord) -> Option<GuestNetwork> {
        let nic = record.nic.as_ref()?;
        let Wire::Nat { address, prefix, gateway } = nic.wire else { return None };
        Some(GuestNetwork {
            mac: station(nic.mac)?,
            address,
            prefix,
            gateway,
            gateway_mac: station(self.inner.hv.gateway_mac())?,
            resolvers: self.inner.policies.resolvers(&record.owner_uid),
        })
    }

    /// Lets a machine that has a network device use it. Fails where the policy of its owner isn't in force.
    pub async fn open(&self, record: &MachineRecord) -> Result<(), HvError> {
        if record.nic.is_none() {
            return Ok(());
        }
        self.inner.policies.settle().await?;
        self.inner.hv.open_link(&record.name).await
    }

    /// Takes it from it.
    pub async fn close(&self, record: &MachineRecord) -> Result<(), HvError> {
        if record.nic.is_none() { Ok(()) } else { self.inner.hv.close_link(&record.name).await }
    }

    /// Has the host hold an owner's machines to this policy, those that run too.
    pub async fn police(&self, owner_uid: &str, policy: Policy) -> Result<(), HvError> {
        self.inner.policies.set(owner_uid, policy);
        self.inner.policies.settle().await
    }

    /// The machines of this owner have no network (any more).
    pub async fn unpolice(&self, owner_uid: &str) -> Result<(), HvError> {
        if !self.inner.policies.remove(owner_uid) {
            return Ok(());
        }
        self.inner.policies.settle().await
    }

    /// All of them at once, before anybody looks at a single one: machines of before whose owner isn't among them are cut off.
    pub async fn begin(&self, policies: BTreeMap<String, Policy>) -> Result<(), HvError> {
        let connected = self.inner.addresses.taken() > 0;
        self.inner.policies.begin(policies, connected);
        self.inner.policies.settle().await
    }

    /// Forgets the policies of owners that are gone, with the last of their machines.
    pub async fn keep(&self, exists: impl Fn(&str) -> bool) -> Result<(), HvError> {
        self.inner.policies.keep(exists);
        self.inner.policies.settle().await
    }

    /// The generation of the owner's policy that is in force here.
    pub fn in_force(&self, owner_uid: &str) -> Option<i64> {
        self.inner.policies.in_force(owner_uid)
    }

    async fn subnet(&self) -> Result<Subnet, HvError> {
        self.inner.subnet.get_or_try_init(|| self.inner.hv.subnet()).await.cloned()
    }
}

fn full(subnet: &Subnet) -> String {
    let machines = subnet.machines().count();
    format!("all {machines} addresses of {} are taken by machines with a network", subnet.net())
}

/// One MAC address has two types: this one is what agents are told.
fn station(mac: agentvm_core::network::Mac) -> Option<Mac> {
    Mac::new(mac.bytes()).ok()
}
