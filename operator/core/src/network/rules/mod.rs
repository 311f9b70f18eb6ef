//! The rule set of one installation, made of all policies and all machines whose link is open.
//!
//! One table, named after the installation, in the families `bridge` (what a machine may say on the wire, how fast) and
//! `inet` (what is routed for it). Sets and maps carry the machines, so that opening a link adds elements and leaves
//! rules alone. Each text is one transaction of `nft -f -`: all of it holds, or what held before.
//!
//! No rule looks at anything but this installation's taps, bridge and QEMUs, and every base chain accepts what it doesn't
//! know: whatever becomes of this table, nobody is locked out of the host.

mod bridged;
mod connection;
mod elements;
mod forward;
mod frames;
mod host;
mod ir;
mod leases;
mod limits;
mod names;
mod ranges;
mod text;
mod write;

#[cfg(test)]
mod tests;

use agentvm_types::OwnerUid;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use ipnet::IpNet;

pub use connection::{Connection, lets_through};
pub use elements::{add_link, remove_link};
pub use forward::DEFAULT_PORTS;
pub use leases::{Lease, grant, list as list_leases, listed as listed_leases, revoke, was_heard};
pub use names::{PREFIX_ALLOW, PREFIX_DENY, PREFIX_FRAME, PREFIX_LIMIT, PREFIX_QEMU, Table};
pub use ranges::{names_private, nowhere, private};
pub use write::{write, write_anew, write_none, write_qemu_only};

use super::{Link, Mac, Policy, Subnet};

/// All that the rule set is made of.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub table: &'a Table,
    pub subnet: &'a Subnet,
    /// Of the installation's bridge.
    pub gateway_mac: Mac,
    /// What no policy opens: addresses of nodes, API server, pods and services.
    pub deny_list: &'a [IpNet],
    /// The host's own addresses. From a bridge of the host a router may lead to those of its other networks.
    pub host_addresses: &'a [IpNet],
    pub policies: &'a BTreeMap<OwnerUid, Policy>,
    /// Owners that may still have chains and have no policy any more.
    pub gone: &'a [OwnerUid],
    /// The links that are open. One without a policy stays closed.
    pub links: &'a [Link],
    /// Of machines on a bridge of the host, whose links are open.
    pub leases: Vec<Lease>,
    /// Whom machines' QEMUs run as, where they are users of their own.
    pub qemu_users: Option<RangeInclusive<u32>>,
}

impl Wanted<'_> {
    /// Whether any pool asks for IPv6. Where none does, there are no rules for it but to drop it.
    fn ipv6(&self) -> bool {
        self.policies.values().any(|policy| policy.ipv6)
    }

    /// Where this installation's machines are.
    fn nets(&self) -> [IpNet; 2] {
        [self.subnet.net().into(), self.table.ula().into()]
    }
}

/// The names of the counters of a machine: set, and the element in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    pub family: &'static str,
    pub set: &'static str,
    pub element: String,
}

/// What a machine is counted by: connections that were let through; packets, and frames, that were not. Counting goes
/// on until the table is made anew.
pub fn counters(link: &Link) -> (Vec<Counter>, Vec<Counter>) {
    let of = |family, set, element: &str| Counter { family, set, element: element.to_owned() };
    let routed = link.nic.address().map(|_| link.nic.mac.to_string());
    let allowed = routed.iter().map(|mac| of(names::FAMILY_INET, names::ALLOWED, mac)).collect();
    let denied = routed.iter().map(|mac| of(names::FAMILY_INET, names::DENIED, mac));
    let frames = of(names::FAMILY_BRIDGE, names::REFUSED, &link.nic.tap);
    (allowed, denied.chain([frames]).collect())
}
