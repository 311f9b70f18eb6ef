//! Addresses that DHCP servers gave to machines on a bridge of the host.
//!
//! A machine's word is not taken for it. The kernel remembers, for a minute, what servers answered to whom (`heard`); what of that a machine's
//! agent says it has is then its own (`leased`), and nothing else it may claim. No machine is heard as a server, and from beyond that network's
//! routers nobody is.

use std::net::Ipv4Addr;

use super::elements::{number, quoted};
use super::names::{FAMILY_BRIDGE, HEARD, LEASED};
use crate::network::Table;

/// Who has which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub tap: String,
    pub address: Ipv4Addr,
}

/// Has the machine speak with this address. It has no other.
pub fn grant(table: &Table, lease: &Lease) -> String {
    change("add", table, lease)
}

/// nft refuses it where the machine hasn't got it.
pub fn revoke(table: &Table, lease: &Lease) -> String {
    change("delete", table, lease)
}

/// Asks whether a server gave it; nft refuses where none did.
pub fn was_heard(table: &Table, lease: &Lease) -> String {
    let address = number(&lease.address.octets());
    format!(
        "get element {FAMILY_BRIDGE} {} {HEARD} {{ {} . {address} }}\n",
        table.name(),
        quoted(&lease.tap)
    )
}

/// Asks which leases there are.
pub fn list(table: &Table) -> String {
    format!("list set {FAMILY_BRIDGE} {} {LEASED}\n", table.name())
}

/// What nft answers to that.
pub fn listed(answer: &str) -> Vec<Lease> {
    let element = |text: &str| {
        let (tap, address) = text.trim().strip_prefix('"')?.split_once("\" . ")?;
        Some(Lease { tap: tap.to_owned(), address: address.parse().ok()? })
    };
    let (_, elements) = answer.split_once("elements = {").unwrap_or_default();
    elements.split('}').next().unwrap_or_default().split(',').filter_map(element).collect()
}

fn change(verb: &str, table: &Table, lease: &Lease) -> String {
    let Lease { tap, address } = lease;
    format!(
        "{verb} element {FAMILY_BRIDGE} {} {LEASED} {{ {} . {address} }}\n",
        table.name(),
        quoted(tap)
    )
}
