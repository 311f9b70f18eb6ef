//! The table in the kernel: written whole from [`State`], or changed a few elements at a time.

use std::ops::RangeInclusive;

use agentvm_core::names::InstanceId;
use agentvm_core::network::{Link, Mac, Table, derive_mac, rules};
use agentvm_types::OwnerUid;

use super::nft::Nft;
use super::state::{Policies, State};
use crate::HvError;

/// The way to one installation's table.
#[derive(Debug)]
pub struct RuleTable {
    table: Table,
    gateway_mac: Mac,
    /// The users that QEMU processes run as.
    qemu_users: Option<RangeInclusive<u32>>,
    nft: Nft,
}

impl RuleTable {
    pub fn new(instance: &InstanceId, qemu_users: Option<RangeInclusive<u32>>) -> Self {
        Self {
            table: Table::of(instance),
            gateway_mac: derive_mac(&["gateway", instance.as_str()]),
            qemu_users,
            nft: Nft::default(),
        }
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    pub fn gateway_mac(&self) -> Mac {
        self.gateway_mac
    }

    pub fn qemu_users(&self) -> Option<RangeInclusive<u32>> {
        self.qemu_users.clone()
    }

    pub fn nft(&self) -> &Nft {
        &self.nft
    }

    /// Whether the table is there, from this process or from one before it.
    pub fn is_in_force(&self) -> bool {
        self.families() == [true; 2]
    }

    /// Where machines have no network, the table has one family only, for QEMU.
    fn families(&self) -> [bool; 2] {
        let said = self.nft.ask("look for the rules", "list tables\n").unwrap_or_default();
        ["bridge", "inet"].map(|family| {
            said.lines().any(|line| line == format!("table {family} {}", self.table.name()))
        })
    }

    /// Writes all of it over what is there.
    pub fn rewrite(&self, what: &str, state: &mut State) -> Result<(), HvError> {
        self.write(what, state, rules::write).map(drop)
    }

    /// Writes all of it in place of the old table. `false` means that there is no network to write
    /// it for.
    pub fn rebuild(&self, what: &str, state: &mut State) -> Result<bool, HvError> {
        let written = self.write(what, state, rules::write_anew)?;
        state.made |= written;
        Ok(written)
    }

    fn write(
        &self,
        what: &str,
        state: &mut State,
        text: impl FnOnce(&rules::Wanted<'_>) -> String,
    ) -> Result<bool, HvError> {
        let links: Vec<Link> = state.open.values().cloned().collect();
        let Some(wanted) = self.wanted(state, &links) else { return Ok(false) };
        self.nft.run(what, &text(&wanted))?;
        state.written = state.policies.clone();
        Ok(true)
    }

    /// Writes the part of one owner, as `policies` have it, and leaves the parts of all others
    /// alone. The links of an owner without a policy leave the rules.
    pub fn write_owner(
        &self,
        what: &str,
        owner_uid: &OwnerUid,
        policies: &Policies,
        state: &State,
    ) -> Result<(), HvError> {
        let Some(wanted) = self.wanted(state, &[]) else { return Ok(()) };
        let wanted = rules::Wanted { policies, ..wanted };
        let mut text = String::new();
        if !policies.contains_key(owner_uid) {
            let leases = state.open.iter().filter(|(_, link)| link.owner_uid == *owner_uid);
            for (name, link) in leases {
                text += &rules::remove_link(&self.table, link);
                let lease = state.leases.get(name);
                text += &lease.map(|one| rules::revoke(&self.table, one)).unwrap_or_default();
            }
        }
        text += &rules::write_owner(&wanted, owner_uid);
        if rules::asks_ipv6(policies) != rules::asks_ipv6(&state.policies) {
            text += &rules::write_shared(&wanted);
        }
        self.nft.run(what, &text)
    }

    fn wanted<'a>(&'a self, state: &'a State, links: &'a [Link]) -> Option<rules::Wanted<'a>> {
        Some(rules::Wanted {
            table: &self.table,
            subnet: state.subnet.as_ref()?,
            gateway_mac: self.gateway_mac,
            deny_list: &state.deny_list,
            host_addresses: &state.host_addresses,
            policies: &state.policies,
            before: &state.written,
            links,
            leases: state.leases.values().cloned().collect(),
            qemu_users: self.qemu_users.clone(),
        })
    }

    /// Removes the table. Where machines never had a network, there may be no nft either; then
    /// there is nothing to remove.
    pub fn remove(&self, made: bool) -> Result<(), HvError> {
        if !made && !self.families().contains(&true) {
            return Ok(());
        }
        self.nft.run("remove the rules", &rules::write_none(&self.table))
    }
}
