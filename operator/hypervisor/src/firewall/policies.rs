//! New policies: the rules are written first. Then machines without a policy are cut off, and
//! connections that are no longer allowed are forgotten. A step that fails is pending, and is done
//! with the next policies.
//!
//! Each owner's policy is a transaction of its own. One that fails is that owner's failure: its
//! earlier policy stays, and all others go on. The whole table is written at the start, and when a
//! thing changes that all owners share.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentvm_core::names::DomainName;
use agentvm_core::network::{Link, Policy, Subnet};
use agentvm_types::OwnerUid;
use ipnet::IpNet;

use super::netlink::device;
use super::state::{Policies, State};
use super::{Firewall, connections, host_addresses, io};
use crate::locks::lock;
use crate::{HvError, MachineRecord, RefusedPolicies};

const WHAT: &str = "set the rules";

impl Firewall {
    /// See [`crate::Hypervisor::apply_policies`]. `machines` are the existing ones, where the
    /// firewall [is new](Self::is_new).
    pub fn enforce(
        self: &Arc<Self>,
        subnet: &Subnet,
        policies: Policies,
        deny_list: &[IpNet],
        machines: &[MachineRecord],
    ) -> Result<RefusedPolicies, HvError> {
        for record in machines {
            self.machines.note(record);
        }
        let mut refused = self.change(|state| {
            *lock(&self.in_force) = None;
            self.write(subnet, policies, deny_list, machines, state)
        })?;
        refused.extend(self.forget_refused());
        self.say_in_force();
        Ok(refused)
    }

    /// See [`crate::Hypervisor::apply_policy`].
    pub fn enforce_one(
        self: &Arc<Self>,
        owner_uid: &OwnerUid,
        policy: Option<Policy>,
    ) -> Result<(), HvError> {
        let written = self.change(|state| self.write_one(owner_uid, policy, state));
        let refused = self.forget_refused().remove(owner_uid);
        self.say_in_force();
        written.and(refused.map_or(Ok(()), Err))
    }

    /// The policies in force. `None` before the first ones, and while it is not certain which ones
    /// are.
    pub fn in_force(&self) -> Option<Arc<Policies>> {
        lock(&self.in_force).clone()
    }

    /// A policy of which a step is pending is not in force.
    fn say_in_force(&self) {
        let state = lock(&self.state);
        if !Arc::ptr_eq(&state.policies, &state.written) {
            *lock(&self.in_force) = None;
            return;
        }
        let pending = |owner: &OwnerUid| state.pending.values().any(|l| l.owner_uid == *owner);
        let mut policies = state.policies.clone();
        if policies.keys().any(pending) {
            Arc::make_mut(&mut policies).retain(|owner, _| !pending(owner));
        }
        *lock(&self.in_force) = Some(policies);
    }

    fn write(
        &self,
        subnet: &Subnet,
        policies: Policies,
        deny_list: &[IpNet],
        machines: &[MachineRecord],
        state: &mut State,
    ) -> Result<RefusedPolicies, HvError> {
        if !state.made {
            state.open = left_open(machines)?;
            state.leases = self.leases_left(&state.open);
        }
        let addresses = host_addresses::read()?;
        if state.host_addresses == addresses && state.differs_in_policies_only(subnet, deny_list) {
            return Ok(self.write_each(&policies, state));
        }
        state.host_addresses = addresses;
        let policies = Arc::new(policies);
        let cut = state.adopt(subnet, policies.clone(), deny_list);
        let written = self.rewrite(state);
        // Also where the rules couldn't be written: these machines have no policy any more.
        let down = self.taps_down(&cut);
        match written {
            Err(HvError::NetworkUnavailable { .. }) if !policies.is_empty() => {
                let refused = self.write_in_parts(&policies, state)?;
                down.map(|()| refused)
            }
            written => written.and(down).map(|()| RefusedPolicies::new()),
        }
    }

    /// One of the policies may be the reason why the whole could not be written. Without any policy
    /// it can be, and then each owner's part comes alone.
    fn write_in_parts(
        &self,
        policies: &Arc<Policies>,
        state: &mut State,
    ) -> Result<RefusedPolicies, HvError> {
        let (open, leases) = (std::mem::take(&mut state.open), std::mem::take(&mut state.leases));
        state.policies = Arc::default();
        let base = self.rebuild(WHAT, state);
        if base.is_err() {
            (state.open, state.leases, state.policies) = (open, leases, policies.clone());
            return base.map(|()| RefusedPolicies::new());
        }
        tracing::warn!("the rules of all pools can't be written together; each comes alone");
        let refused = self.write_each(policies, state);
        let is_held = |link: &Link| state.policies.contains_key(&link.owner_uid);
        let (held, cut) = open.into_iter().partition(|(_, link)| is_held(link));
        self.taps_down(&cut)?;
        state.pending.extend(cut);
        state.open = held;
        state.leases =
            leases.into_iter().filter(|(name, _)| state.open.contains_key(name)).collect();
        // The machines are in no set yet. All of these policies were accepted one by one.
        self.rewrite(state).map(|()| refused)
    }

    /// The owners whose policy is not the one that the table was written for, one after the other.
    fn write_each(&self, policies: &Policies, state: &mut State) -> RefusedPolicies {
        let gone = state.policies.keys().filter(|owner| !policies.contains_key(*owner));
        let changed =
            policies.iter().filter(|(owner, one)| state.policies.get(*owner) != Some(one));
        let gone = gone.map(|owner| (owner.clone(), None));
        let changed = changed.map(|(owner, policy)| (owner.clone(), Some(policy.clone())));
        let all: Vec<(OwnerUid, Option<Policy>)> = gone.chain(changed).collect();
        let written = all.into_iter().filter_map(|(owner, policy)| {
            let why = self.write_one(&owner, policy, state).err()?;
            Some((owner, why))
        });
        written.collect()
    }

    /// The part of one owner. If it fails, the earlier part stays, but an owner without a policy
    /// is cut off in any case.
    fn write_one(
        &self,
        owner_uid: &OwnerUid,
        policy: Option<Policy>,
        state: &mut State,
    ) -> Result<(), HvError> {
        if !state.made {
            return Err(super::unavailable(WHAT, "the rules of this host are not made yet"));
        }
        if state.policies.get(owner_uid) == policy.as_ref() {
            return Ok(());
        }
        let mut policies = Policies::clone(&state.policies);
        let is_cut = policy.is_none();
        match policy {
            Some(policy) => policies.insert(owner_uid.clone(), policy),
            None => policies.remove(owner_uid),
        };
        let owned = state.open.iter().filter(|(_, link)| link.owner_uid == *owner_uid && is_cut);
        let cut: BTreeMap<_, _> = owned.map(|(name, link)| (name.clone(), link.clone())).collect();
        let down = self.taps_down(&cut);
        let policies = Arc::new(policies);
        match self.rules.write_owner(WHAT, owner_uid, &policies, state) {
            Ok(()) => state.adopt_one(owner_uid, policies),
            // It is not known what the table is now, or another process changed it: it is made
            // anew, as it was before this policy.
            Err(why) if !is_cut && self.is_sound(&why) => return Err(why),
            Err(why) if !is_cut => {
                self.rebuild(WHAT, state)?;
                return Err(why);
            }
            Err(why) => {
                state.adopt_one(owner_uid, policies);
                self.made_anew(WHAT, &why, state)?;
            }
        }
        down
    }

    /// Whether the table is as it was before a transaction that failed.
    fn is_sound(&self, why: &HvError) -> bool {
        matches!(why, HvError::NetworkUnavailable { .. }) && self.rules.is_in_force()
    }

    fn taps_down(&self, cut: &BTreeMap<DomainName, Link>) -> Result<(), HvError> {
        let downs = cut.iter().map(|(name, link)| {
            tracing::info!(%name, "a machine is cut off: there is no policy of its owner any more");
            self.taps.down(&link.nic.tap).map_err(io("cut off a machine", &link.nic.tap))
        });
        downs.fold(Ok(()), Result::and)
    }

    /// Forgets the connections that the policies no longer allow.
    fn forget_refused(&self) -> RefusedPolicies {
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
            let owner_uid = link.owner_uid.clone();
            let pending = |_: &HvError| drop(lock(&self.state).pending.insert(name, link));
            forgotten.inspect_err(pending).err().map(|why| (owner_uid, why))
        };
        // Every step is tried, also after one that failed.
        pending.into_iter().filter_map(forget).collect()
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
