//! New policies: the rules are written first, then whoever has none any more is cut off, and connections that may not be any more are
//! forgotten. What of that fails is owed, and done with the next policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentvm_core::names::DomainName;
use agentvm_core::network::{Link, Policy, Subnet};
use ipnet::IpNet;

use super::netlink::device;
use super::{Firewall, State, connections, host_addresses, io};
use crate::locks::lock;
use crate::{HvError, MachineRecord};

impl Firewall {
    /// As [`crate::Hypervisor::police`]; `machines` are those that are there, where it is the first time.
    pub fn police(
        self: &Arc<Self>,
        subnet: &Subnet,
        policies: BTreeMap<String, Policy>,
        never: &[IpNet],
        machines: &[MachineRecord],
    ) -> Result<(), HvError> {
        for record in machines {
            self.know(record);
        }
        let mut state = lock(&self.state);
        if !state.made {
            state.open = left_open(machines)?;
            state.leases = self.leases_left(&state.open);
        }
        state.own = host_addresses::read()?;
        let cut = state.take(subnet, policies, never);
        let set = self.set(&mut state);
        // Whatever became of the rules: these have none any more.
        let downs = cut.iter().map(|(name, link)| {
            tracing::info!(%name, "a machine is cut off: there is no policy of its owner any more");
            self.taps.down(&link.nic.tap).map_err(io("cut off a machine", &link.nic.tap))
        });
        let down = downs.fold(Ok(()), Result::and);
        drop(state);
        set.and(down)?;
        self.forget_refused()
    }

    /// Connections that the policies don't let through any more.
    fn forget_refused(&self) -> Result<(), HvError> {
        let (owed, policies, never) = {
            let mut state = lock(&self.state);
            (std::mem::take(&mut state.owed), state.policies.clone(), state.never.clone())
        };
        let forget = |(name, link): (DomainName, Link)| {
            let forgotten = match policies.get(&link.owner_uid) {
                Some(policy) => connections::flush_refused(&link, policy, &never),
                None => connections::flush(&link),
            };
            forgotten.inspect_err(|_| drop(lock(&self.state).owed.insert(name, link)))
        };
        // Each, also after one that failed.
        owed.into_iter().map(forget).fold(Ok(()), Result::and)
    }
}

impl State {
    /// What holds from now on; says who has no policy any more.
    fn take(
        &mut self,
        subnet: &Subnet,
        policies: BTreeMap<String, Policy>,
        never: &[IpNet],
    ) -> BTreeMap<DomainName, Link> {
        let open = std::mem::take(&mut self.open).into_iter();
        let (kept, cut) =
            open.partition::<BTreeMap<_, _>, _>(|(_, link)| policies.contains_key(&link.owner_uid));
        self.open = kept;
        self.leases.retain(|name, _| !cut.contains_key(name));
        self.owed.extend(changed(self, &policies, never));
        self.owed.extend(cut.clone());
        let before = std::mem::replace(&mut self.policies, policies);
        let gone = before
            .into_keys()
            .filter(|owner| !self.policies.contains_key(owner))
            .collect::<Vec<_>>();
        self.gone.extend(gone);
        (self.never, self.subnet) = (never.to_vec(), Some(subnet.clone()));
        cut
    }
}

/// The open links that another policy holds for from now on.
fn changed(
    state: &State,
    policies: &BTreeMap<String, Policy>,
    never: &[IpNet],
) -> Vec<(DomainName, Link)> {
    let changed = |link: &Link| {
        state.never != never || state.policies.get(&link.owner_uid) != policies.get(&link.owner_uid)
    };
    state
        .open
        .iter()
        .filter(|(_, link)| changed(link))
        .map(|(name, link)| (name.clone(), link.clone()))
        .collect()
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
