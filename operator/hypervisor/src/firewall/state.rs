//! The content of the rules: policies, open links, leases and addresses of the host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use agentvm_core::names::DomainName;
use agentvm_core::network::rules::{self, Lease};
use agentvm_core::network::{Link, Policy, Subnet, Table};
use agentvm_types::OwnerUid;
use ipnet::IpNet;

/// The policies, by owner.
pub type Policies = BTreeMap<OwnerUid, Policy>;

#[derive(Debug, Default)]
pub struct State {
    pub subnet: Option<Subnet>,
    pub policies: Arc<Policies>,
    /// The policies that the table was last written for: [`Self::policies`], unless that failed.
    pub written: Arc<Policies>,
    pub deny_list: Vec<IpNet>,
    pub host_addresses: Vec<IpNet>,
    /// The leases of machines on a bridge of the host, whose links are open.
    pub leases: BTreeMap<DomainName, Lease>,
    pub open: BTreeMap<DomainName, Link>,
    /// Links whose policy changed, and whose connections have not been checked since.
    pub pending: BTreeMap<DomainName, Link>,
    /// The table is as this process made it.
    pub made: bool,
}

impl State {
    /// Takes over the policies that hold from now on; returns the open links that lose theirs.
    pub fn adopt(
        &mut self,
        subnet: &Subnet,
        policies: Arc<Policies>,
        deny_list: &[IpNet],
    ) -> BTreeMap<DomainName, Link> {
        let open = std::mem::take(&mut self.open).into_iter();
        let (kept, cut) =
            open.partition::<BTreeMap<_, _>, _>(|(_, link)| policies.contains_key(&link.owner_uid));
        self.open = kept;
        self.leases.retain(|name, _| !cut.contains_key(name));
        self.pending.extend(self.changed(&policies, deny_list));
        self.pending.extend(cut.clone());
        self.policies = policies;
        (self.deny_list, self.subnet) = (deny_list.to_vec(), Some(subnet.clone()));
        cut
    }

    /// Whether the table differs from the wanted one in policies only. Then each owner's part is
    /// changed alone.
    pub fn differs_in_policies_only(&self, subnet: &Subnet, deny_list: &[IpNet]) -> bool {
        self.made
            && self.subnet.as_ref() == Some(subnet)
            && self.deny_list == deny_list
            && Arc::ptr_eq(&self.policies, &self.written)
    }

    /// Takes over the policy of one owner, or that it has none any more. The table holds it.
    pub fn adopt_one(&mut self, owner_uid: &OwnerUid, policies: Arc<Policies>) {
        (self.policies, self.written) = (policies.clone(), policies);
        let links = self.open.iter().filter(|(_, link)| link.owner_uid == *owner_uid);
        self.pending.extend(links.map(|(name, link)| (name.clone(), link.clone())));
        if !self.policies.contains_key(owner_uid) {
            self.open.retain(|_, link| link.owner_uid != *owner_uid);
            self.leases.retain(|name, _| self.open.contains_key(name));
        }
    }

    /// The open links that another policy holds for from now on.
    fn changed(&self, policies: &Policies, deny_list: &[IpNet]) -> Vec<(DomainName, Link)> {
        let is_changed = |link: &Link| {
            self.deny_list != deny_list
                || self.policies.get(&link.owner_uid) != policies.get(&link.owner_uid)
        };
        let changed = self.open.iter().filter(|(_, link)| is_changed(link));
        changed.map(|(name, link)| (name.clone(), link.clone())).collect()
    }

    /// The text that takes a machine's lease away; empty without a lease.
    pub fn revoke_lease(&mut self, table: &Table, name: &DomainName) -> String {
        self.leases.remove(name).map(|lease| rules::revoke(table, &lease)).unwrap_or_default()
    }

    /// Why a machine may not have an address. A server that gives such an address is wrong, or it
    /// is no server.
    pub fn refuses(&self, lease: &Lease) -> Option<&'static str> {
        let address = IpAddr::from(lease.address);
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        let ours =
            || self.subnet.as_ref().is_some_and(|subnet| subnet.net().contains(&lease.address));
        let is_anothers = |other: &Lease| other.address == lease.address && other.tap != lease.tap;
        if within(&self.host_addresses) {
            Some("it is the host's own")
        } else if within(&rules::nowhere()) || within(&self.deny_list) || ours() {
            Some("no machine may have it")
        } else if self.leases.values().any(is_anothers) {
            Some("another machine here has it")
        } else {
            None
        }
    }
}
