//! New policies: the rules are written first. Then machines without a policy are cut off, and
//! connections that are no longer allowed are forgotten. A step that fails is pending, and is done
//! with the next policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentvm_core::names::DomainName;
use agentvm_core::network::{Link, Subnet};
use ipnet::IpNet;

use super::netlink::device;
use super::state::{Policies, State};
use super::{Firewall, connections, host_addresses, io};
use crate::locks::lock;
use crate::{HvError, MachineRecord};

impl Firewall {
    /// See [`crate::Hypervisor::apply_policies`]. `machines` are the existing ones, where the
    /// firewall [is new](Self::is_new).
    pub fn enforce(
        self: &Arc<Self>,
        subnet: &Subnet,
        policies: Policies,
        deny_list: &[IpNet],
        machines: &[MachineRecord],
    ) -> Result<(), HvError> {
        for record in machines {
            self.machines.note(record);
        }
        let policies = Arc::new(policies);
        self.change(|state| {
            *lock(&self.in_force) = None;
            self.write(subnet, policies.clone(), deny_list, machines, state)
        })?;
        self.forget_refused()?;
        // Other policies may have come meanwhile.
        let state = lock(&self.state);
        if Arc::ptr_eq(&state.policies, &policies) {
            *lock(&self.in_force) = Some(policies);
        }
        Ok(())
    }

    /// The policies in force, from the last [`Self::enforce`]. `None` before the first ones, and
    /// while it is not certain which ones are.
    pub fn in_force(&self) -> Option<Arc<Policies>> {
        lock(&self.in_force).clone()
    }

    fn write(
        &self,
        subnet: &Subnet,
        policies: Arc<Policies>,
        deny_list: &[IpNet],
        machines: &[MachineRecord],
        state: &mut State,
    ) -> Result<(), HvError> {
        if !state.made {
            state.open = left_open(machines)?;
            state.leases = self.leases_left(&state.open);
        }
        state.host_addresses = host_addresses::read()?;
        let cut = state.adopt(subnet, policies, deny_list);
        let written = self.rewrite(state);
        // Also where the rules couldn't be written: these machines have no policy any more.
        let downs = cut.iter().map(|(name, link)| {
            tracing::info!(%name, "a machine is cut off: there is no policy of its owner any more");
            self.taps.down(&link.nic.tap).map_err(io("cut off a machine", &link.nic.tap))
        });
        let down = downs.fold(Ok(()), Result::and);
        written.and(down)
    }

    /// Forgets the connections that the policies no longer allow.
    fn forget_refused(&self) -> Result<(), HvError> {
        let (pending, policies, deny_list) = {
            let mut state = lock(&self.state);
            let pending = std::mem::take(&mut state.pending);
            (pending, state.policies.clone(), state.deny_list.clone())
        };
        let forget = |(name, link): (DomainName, Link)| {
            let forgotten = match policies.get(&link.owner_uid) {
                Some(policy) => connections::flush_refused(&link, policy, &deny_list),
                None => connections::flush(&link),
            };
            forgotten.inspect_err(|_| drop(lock(&self.state).pending.insert(name, link)))
        };
        // Every step is tried, also after one that failed.
        pending.into_iter().map(forget).fold(Ok(()), Result::and)
    }
}

/// The taps that are up: an operator before this one opened their links.
fn left_open(machines: &[MachineRecord]) -> Result<BTreeMap<DomainName, Link>, HvError> {
    let mut open = BTreeMap::new();
    for record in machines {
        let Some(link) = record.link() else { continue };
        if device::is_up(&link.nic.tap).map_err(io("look at", &link.nic.tap))? == Some(true) {
            open.insert(record.name.clone(), link);
        }
    }
    Ok(open)
}
