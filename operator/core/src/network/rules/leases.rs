//! Addresses that DHCP servers gave to machines on a bridge of the host.
//!
//! The kernel does not believe a machine's word. It remembers, for a minute, which addresses
//! servers gave to whom (`heard`). When the agent of a machine claims such an address, it becomes
//! the machine's own (`leased`), and no other address does. The kernel does not hear machines as
//! servers, nor servers beyond that network's routers.

use std::net::Ipv4Addr;

use super::elements::{number, quoted};
use super::names::{FAMILY_BRIDGE, HEARD, LEASED};
use crate::network::Table;

/// The address that a server gave to the machine behind a tap.
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

/// Asks whether a server gave it; nft refuses if none did.
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

/// The leases in nft's answer to [`list`].
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
