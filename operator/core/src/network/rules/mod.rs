//! The rules of one installation, from all policies and all machines whose link is open.
//!
//! There is one table, named after the installation, in the families `bridge` (permitted frames of
//! a machine, and their rate) and `inet` (routed packets). Sets and maps contain the machines, so
//! opening a link adds elements and leaves rules alone. Each text is one transaction of `nft -f -`:
//! all of it holds, or the previous state. The chains of one owner are replaced alone
//! ([`write_owner`]); the whole table is written only when a thing changes that all owners share.
//!
//! No rule looks at anything but this installation's taps, bridge and QEMUs, and every base chain
//! accepts unknown packets: whatever happens to this table, it locks no person out of the host.

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
pub use leases::{Lease, grant, list as list_leases, listed as listed_leases, revoke, was_heard};
pub use names::{PREFIX_ALLOW, PREFIX_DENY, PREFIX_FRAME, PREFIX_LIMIT, PREFIX_QEMU, Table};
pub use ranges::{names_private, nowhere, private};
pub use write::{write, write_anew, write_none, write_owner, write_qemu_only, write_shared};

use super::{Link, Mac, Policy, Subnet};

/// Everything that the rules are made of.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub table: &'a Table,
    pub subnet: &'a Subnet,
    /// The MAC address of the installation's bridge.
    pub gateway_mac: Mac,
    /// Destinations that no policy opens: addresses of nodes, API server, pods and services.
    pub deny_list: &'a [IpNet],
    /// The host's own addresses. From a bridge of the host, a router may lead to its other
    /// networks.
    pub host_addresses: &'a [IpNet],
    pub policies: &'a BTreeMap<OwnerUid, Policy>,
    /// The policies that the table was last written for, where it is not made anew.
    pub before: &'a BTreeMap<OwnerUid, Policy>,
    /// The links that are open. One without a policy stays closed.
    pub links: &'a [Link],
    /// The machines on a bridge of the host whose links are open.
    pub leases: Vec<Lease>,
    /// The users of the machines' QEMUs, where these are users of their own.
    pub qemu_users: Option<RangeInclusive<u32>>,
}

impl Wanted<'_> {
    /// Does any pool ask for IPv6? Without one, the rules only drop IPv6.
    fn ipv6(&self) -> bool {
        asks_ipv6(self.policies)
    }

    /// Where this installation's machines are.
    fn nets(&self) -> [IpNet; 2] {
        [self.subnet.net().into(), self.table.ula().into()]
    }
}

/// Whether any of them asks for IPv6. The chains that all owners share depend on this, and on
/// nothing else that an owner chooses.
pub fn asks_ipv6(policies: &BTreeMap<OwnerUid, Policy>) -> bool {
    policies.values().any(|policy| policy.ipv6)
}

/// The names of the counters of a machine: set, and the element in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    pub family: &'static str,
    pub set: &'static str,
    pub element: String,
}

/// The counters of a machine: permitted connections, denied packets and denied frames. They count
/// until the table is made again.
pub fn counters(link: &Link) -> (Vec<Counter>, Vec<Counter>) {
    let of = |family, set, element: &str| Counter { family, set, element: element.to_owned() };
    let routed = link.nic.address().map(|_| link.nic.mac.to_string());
    let allowed = routed.iter().map(|mac| of(names::FAMILY_INET, names::ALLOWED, mac)).collect();
    let denied = routed.iter().map(|mac| of(names::FAMILY_INET, names::DENIED, mac));
    let frames = of(names::FAMILY_BRIDGE, names::REFUSED, &link.nic.tap);
    (allowed, denied.chain([frames]).collect())
}
