//! The address that a machine on a bridge of the host may use as its source.
//!
//! The kernel must have heard a DHCP server give the machine that address (the rules' `heard`).
//! The machine may use it from the moment when its agent says that it has it, until its link is
//! closed or the machine begins anew. Answers of servers while a run has the machine change
//! nothing: only a LEASE does, and that comes before any user's code.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use agentvm_core::names::DomainName;
use agentvm_core::network::rules::{self, Lease};
use agentvm_core::network::{Link, Wire};

use super::state::State;
use super::{Firewall, unavailable};
use crate::HvError;

/// The words of nft where an element is missing.
const MISSING: &str = "No such file or directory";

impl Firewall {
    /// See [`crate::Hypervisor::lease_link`].
    pub fn lease(
        self: &Arc<Self>,
        name: &DomainName,
        link: &Link,
        address: Ipv4Addr,
    ) -> Result<(), HvError> {
        let Wire::Bridge { bridge } = &link.nic.wire else { return Ok(()) };
        let what = format!("have machine {name} speak with the address {address}");
        let lease = Lease { tap: link.nic.tap.clone(), address };
        self.change(|state| {
            if !state.open.contains_key(name) {
                return Err(unavailable(&what, "it is not connected"));
            }
            if state.leases.get(name) == Some(&lease) {
                return Ok(());
            }
            if let Some(why) = state.refuses(&lease) {
                return Err(unavailable(&what, why));
            }
            self.must_have_heard(&what, bridge, &lease)?;
            self.grant(&what, name, lease, state)
        })
    }

    fn must_have_heard(&self, what: &str, bridge: &str, lease: &Lease) -> Result<(), HvError> {
        let heard = self.rules.nft().ask(what, &rules::was_heard(self.table(), lease));
        heard.map(drop).map_err(|why| match why {
            HvError::NetworkUnavailable { detail, .. } if detail.contains(MISSING) => unavailable(
                what,
                format!(
                    "no DHCP server on {bridge} was heard giving it that within the last minute"
                ),
            ),
            why => why,
        })
    }

    fn grant(
        &self,
        what: &str,
        name: &DomainName,
        lease: Lease,
        state: &mut State,
    ) -> Result<(), HvError> {
        let text = state.revoke_lease(self.table(), name) + &rules::grant(self.table(), &lease);
        state.leases.insert(name.clone(), lease);
        self.put(what, &text, state).inspect_err(|_| drop(state.leases.remove(name)))
    }

    /// A machine that begins anew has no lease.
    pub(super) fn unlease(
        &self,
        what: &str,
        name: &DomainName,
        state: &mut State,
    ) -> Result<(), HvError> {
        match state.revoke_lease(self.table(), name) {
            none if none.is_empty() => Ok(()),
            text => self.put(what, &text, state),
        }
    }

    fn put(&self, what: &str, text: &str, state: &mut State) -> Result<(), HvError> {
        self.rules.nft().run(what, text).or_else(|why| self.made_anew(what, &why, state))
    }

    /// The leases that an operator before this one left, of links that are open. Only root can have
    /// put them there.
    pub(super) fn leases_left(
        &self,
        open: &BTreeMap<DomainName, Link>,
    ) -> BTreeMap<DomainName, Lease> {
        if !open.values().any(|link| matches!(link.nic.wire, Wire::Bridge { .. })) {
            return BTreeMap::new();
        }
        let said = self
            .rules
            .nft()
            .ask("look for leases", &rules::list_leases(self.table()))
            .unwrap_or_default();
        let leases = rules::listed_leases(&said).into_iter();
        let whose = |lease: &Lease| {
            open.iter().find(|(_, link)| link.nic.tap == lease.tap).map(|(name, _)| name.clone())
        };
        leases.filter_map(|lease| Some((whose(&lease)?, lease))).collect()
    }
}
