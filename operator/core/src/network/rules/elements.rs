//! One machine's elements in the sets: they open its link, and close it.

use std::net::IpAddr;

use super::counters;
use super::ir::Version;
use super::names::{
    ARRIVING, BRIDGED, CALLERS, FAMILY_BRIDGE, FAMILY_INET, LEAVING, LINKED, OwnerChains, PINNED,
    PLUGGED, POOLS, STATIONS, of,
};
use crate::network::{Link, Table, Wire};
use agentvm_types::hex;

/// An element of a set, or a key of a map with its value.
struct Element {
    family: &'static str,
    set: &'static str,
    key: String,
    verdict: Option<String>,
}

impl Element {
    fn member(family: &'static str, set: &'static str, key: String) -> Self {
        Self { family, set, key, verdict: None }
    }

    fn verdict(family: &'static str, set: &'static str, key: String, verdict: String) -> Self {
        Self { family, set, key, verdict: Some(verdict) }
    }

    fn add(&self, table: &Table) -> String {
        let verdict =
            self.verdict.as_ref().map(|verdict| format!(" : {verdict}")).unwrap_or_default();
        format!(
            "add element {} {} {} {{ {}{verdict} }}\n",
            self.family,
            table.name(),
            self.set,
            self.key
        )
    }

    fn delete(&self, table: &Table) -> String {
        format!("delete element {} {} {} {{ {} }}\n", self.family, table.name(), self.set, self.key)
    }
}

/// Lets a machine talk. Its policy is part of the table already. The tap goes up after this. The
/// counters stay: removing an element costs the kernel several times the cost of adding one, and a
/// claim waits for this.
pub fn add_link(table: &Table, link: &Link) -> String {
    let counted: String = counted(link).map(|element| element.add(table)).collect();
    connected(link).iter().fold(counted, |text, element| text + &element.add(table))
}

/// Cuts a machine off, after its tap went down. Its counters stay readable. nft refuses this if the
/// link is not open in this table. Then another process changed the table, and [`super::write`]
/// without this link closes it.
pub fn remove_link(table: &Table, link: &Link) -> String {
    connected(link).iter().map(|element| element.delete(table)).collect()
}

fn counted(link: &Link) -> impl Iterator<Item = Element> {
    let (allowed, denied) = counters(link);
    allowed.into_iter().chain(denied).map(|counter| {
        let element = if counter.family == FAMILY_BRIDGE {
            quoted(&counter.element)
        } else {
            counter.element
        };
        Element::member(counter.family, counter.set, element)
    })
}

fn connected(link: &Link) -> Vec<Element> {
    let tap = quoted(&link.nic.tap);
    let chains = OwnerChains::of(&link.owner_uid);
    let mut elements = vec![
        Element::verdict(FAMILY_BRIDGE, LEAVING, tap.clone(), format!("jump {}", chains.leave)),
        Element::verdict(FAMILY_BRIDGE, ARRIVING, tap.clone(), format!("goto {}", chains.arrive)),
    ];
    match &link.nic.wire {
        Wire::Nat { address, ipv6, .. } => {
            let addresses = [IpAddr::from(*address)].into_iter().chain(ipv6.map(IpAddr::from));
            elements
                .extend(addresses.flat_map(|address| on_our_bridge(link, &tap, address, &chains)));
        }
        Wire::Bridge { .. } => elements.extend([
            Element::member(FAMILY_BRIDGE, STATIONS, format!("{tap} . {}", link.nic.mac)),
            Element::member(FAMILY_BRIDGE, PLUGGED, tap.clone()),
            Element::member(
                FAMILY_BRIDGE,
                CALLERS,
                format!("{tap} . {}", number(&link.nic.mac.bytes())),
            ),
            Element::verdict(FAMILY_BRIDGE, BRIDGED, tap, format!("goto {}", chains.bridged)),
        ]),
    }
    elements
}

fn on_our_bridge(link: &Link, tap: &str, address: IpAddr, chains: &OwnerChains) -> [Element; 3] {
    let version = if address.is_ipv4() { Version::Four } else { Version::Six };
    [
        Element::member(
            FAMILY_BRIDGE,
            of(PINNED, version),
            format!("{tap} . {} . {address}", link.nic.mac),
        ),
        Element::member(FAMILY_INET, of(LINKED, version), address.to_string()),
        Element::verdict(
            FAMILY_INET,
            of(POOLS, version),
            address.to_string(),
            format!("goto {}", chains.pool),
        ),
    ]
}

pub(super) fn quoted(tap: &str) -> String {
    format!("\"{tap}\"")
}

/// nft writes a number where it has no word.
pub(super) fn number(bytes: &[u8]) -> String {
    format!("0x{}", hex(bytes))
}
