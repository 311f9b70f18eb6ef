//! Which address a machine on a bridge of the host may speak with: one that the kernel has heard a DHCP server give it (the rules' `heard`),
//! from the moment that its agent says that it has it until its link is closed or the machine begins anew. What servers say while a run
//! has the machine changes nothing: only a LEASE does, and that comes before any user's code.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, MutexGuard};

use agentvm_core::names::DomainName;
use agentvm_core::network::rules::{self, Lease};
use agentvm_core::network::{Link, Table, Wire};
use ipnet::IpNet;

use super::{Firewall, State, unavailable};
use crate::HvError;
use crate::locks::lock;

/// What nft says where there is none.
const NONE: &str = "No such file or directory";

impl Firewall {
    /// As [`crate::Hypervisor::lease_link`].
    pub fn lease(
        self: &Arc<Self>,
        name: &DomainName,
        link: &Link,
        address: Ipv4Addr,
    ) -> Result<(), HvError> {
        let Wire::Bridge { bridge } = &link.nic.wire else { return Ok(()) };
        let what = format!("have machine {name} speak with the address {address}");
        let lease = Lease { tap: link.nic.tap.clone(), address };
        let mut state = lock(&self.state);
        if !state.open.contains_key(name) {
            return Err(unavailable(&what, "it is not connected"));
        }
        if state.leases.get(name) == Some(&lease) {
            return Ok(());
        }
        if let Some(why) = state.is_taken(&lease) {
            return Err(unavailable(&what, why));
        }
        self.nft.ask(&what, &rules::was_heard(&self.table, &lease)).map_err(|why| match why {
            HvError::NetworkUnavailable { detail, .. } if detail.contains(NONE) => unavailable(
                &what,
                format!(
                    "no DHCP server on {bridge} was heard giving it that within the last minute"
                ),
            ),
            why => why,
        })?;
        let text = state.unlease(&self.table, name) + &rules::grant(&self.table, &lease);
        state.leases.insert(name.clone(), lease);
        self.put(&what, &text, &mut state).inspect_err(|_| drop(state.leases.remove(name)))
    }

    /// A machine that begins anew has none.
    pub(super) fn unlease(
        self: &Arc<Self>,
        what: &str,
        name: &DomainName,
        state: &mut MutexGuard<'_, State>,
    ) -> Result<(), HvError> {
        match state.unlease(&self.table, name) {
            none if none.is_empty() => Ok(()),
            text => self.put(what, &text, state),
        }
    }

    fn put(
        self: &Arc<Self>,
        what: &str,
        text: &str,
        state: &mut MutexGuard<'_, State>,
    ) -> Result<(), HvError> {
        self.nft.run(what, text).or_else(|why| {
            tracing::warn!(
                what,
                error = &why as &dyn std::error::Error,
                "the rules are not what they were; they are made anew"
            );
            self.set_fresh(what, state)
        })
    }

    /// Those that an operator before this one has left with links that are open. Nobody but root can have put them there.
    pub(super) fn leases_left(
        &self,
        open: &BTreeMap<DomainName, Link>,
    ) -> BTreeMap<DomainName, Lease> {
        if !open.values().any(|link| matches!(link.nic.wire, Wire::Bridge { .. })) {
            return BTreeMap::new();
        }
        let said =
            self.nft.ask("look for leases", &rules::list_leases(&self.table)).unwrap_or_default();
        let leases = rules::listed_leases(&said).into_iter();
        let whose = |lease: &Lease| {
            open.iter().find(|(_, link)| link.nic.tap == lease.tap).map(|(name, _)| name.clone())
        };
        leases.filter_map(|lease| Some((whose(&lease)?, lease))).collect()
    }
}

impl State {
    /// What takes it away, where there is one.
    pub(super) fn unlease(&mut self, table: &Table, name: &DomainName) -> String {
        self.leases.remove(name).map(|lease| rules::revoke(table, &lease)).unwrap_or_default()
    }

    /// A server that gives such an address is wrong, or none.
    fn is_taken(&self, lease: &Lease) -> Option<&'static str> {
        let address = IpAddr::from(lease.address);
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        let ours =
            || self.subnet.as_ref().is_some_and(|subnet| subnet.net().contains(&lease.address));
        if within(&self.own) {
            Some("it is the host's own")
        } else if within(&rules::nowhere()) || within(&self.never) || ours() {
            Some("no machine may have it")
        } else if self
            .leases
            .values()
            .any(|other| other.address == lease.address && other.tap != lease.tap)
        {
            Some("another machine here has it")
        } else {
            None
        }
    }
}
