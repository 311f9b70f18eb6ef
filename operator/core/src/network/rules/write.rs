//! The whole table as one transaction.

use agentvm_types::OwnerUid;
use std::ops::RangeInclusive;

use super::ir::{Rules, Set, SetKind};
use super::names::{
    ALLOWED, ARRIVING, BRIDGED, CALLERS, DENIED, FAMILY_BRIDGE, FAMILY_INET, HEARD, LEASED,
    LEAVING, LINKED, OwnerChains, PINNED, PLUGGED, POOLS, PREFIX_ALLOW, PREFIX_DENY, PREFIX_FRAME,
    PREFIX_LIMIT, REFUSED, STATIONS,
};
use super::{Wanted, bridged, elements, forward, frames, host, leases, limits, text};
use crate::network::Table;

/// The wanted table, whatever it is now. The counters and limits of its machines stay.
pub fn write(wanted: &Wanted<'_>) -> String {
    let families = [in_bridge(wanted), in_inet(wanted)];
    let mut out: String = families.iter().map(|rules| emptied(wanted.table, rules)).collect();
    out.extend(
        wanted
            .gone
            .iter()
            .filter(|owner| !wanted.policies.contains_key(*owner))
            .map(|o| chains_gone(wanted, o)),
    );
    out.extend(
        families
            .iter()
            .map(|rules| block(wanted.table, rules.family, rules.chains.iter().map(text::rules))),
    );
    let links = wanted.links.iter().filter(|link| wanted.policies.contains_key(&link.owner_uid));
    out.extend(links.map(|link| elements::add_link(wanted.table, link)));
    out.extend(wanted.leases.iter().map(|lease| leases::grant(wanted.table, lease)));
    out
}

/// The wanted table, and nothing of the earlier one: at the start, and after another process
/// changed it.
pub fn write_anew(wanted: &Wanted<'_>) -> String {
    write_none(wanted.table) + &write(wanted)
}

/// No network for machines' QEMUs: the only rule for a host whose machines have no network. An
/// existing table stays as it is.
pub fn write_qemu_only(table: &Table, users: RangeInclusive<u32>) -> String {
    let chain = host::of_qemu(table, users);
    let part = |text: String| block(table, FAMILY_INET, [text].into_iter());
    let flush = format!("flush chain {FAMILY_INET} {} {}\n", table.name(), chain.name);
    part(text::set(&host::told_qemu()) + &text::declare(&chain))
        + &flush
        + &part(text::rules(&chain))
}

/// No table at all.
pub fn write_none(table: &Table) -> String {
    // Adding the table first makes deleting it succeed where there is none.
    let gone =
        |family| format!("add table {family} {0}\ndelete table {family} {0}\n", table.name());
    [FAMILY_BRIDGE, FAMILY_INET].map(gone).concat()
}

/// All rules of the bridge family.
pub(super) fn in_bridge(wanted: &Wanted<'_>) -> Rules {
    let mut sets = vec![
        Set::new(PINNED[0], SetKind::Members, "iifname . ether saddr . ip saddr"),
        Set::new(PINNED[1], SetKind::Members, "iifname . ether saddr . ip6 saddr"),
        Set::new(STATIONS, SetKind::Members, "iifname . ether saddr"),
        Set::new(PLUGGED, SetKind::Members, "iifname"),
        Set::new(LEASED, SetKind::Members, "iifname . ip saddr"),
        Set::new(CALLERS, SetKind::Members, text::CALLED),
        Set::new(HEARD, SetKind::Rates, text::GIVEN),
        Set::new(LEAVING, SetKind::Verdicts, "iifname"),
        Set::new(ARRIVING, SetKind::Verdicts, "oifname"),
        Set::new(BRIDGED, SetKind::Verdicts, "iifname"),
        Set::new(REFUSED, SetKind::Counted, "iifname"),
        Set::new(text::log_set(PREFIX_FRAME), SetKind::Rates, "iifname"),
    ];
    sets.extend(unique(
        wanted.policies.values().flat_map(|policy| limits::bridge_sets(&policy.limits)),
    ));
    let mut chains = frames::shared(wanted);
    for (owner, policy) in wanted.policies {
        chains.extend(limits::of_policy(owner, policy));
        chains.push(bridged::chain(wanted, owner, policy));
    }
    Rules { family: FAMILY_BRIDGE, sets, chains }
}

/// All rules of the inet family.
pub(super) fn in_inet(wanted: &Wanted<'_>) -> Rules {
    let mut sets = vec![
        Set::new(POOLS[0], SetKind::Verdicts, "ip saddr"),
        Set::new(POOLS[1], SetKind::Verdicts, "ip6 saddr"),
        Set::new(LINKED[0], SetKind::Members, "ip daddr"),
        Set::new(LINKED[1], SetKind::Members, "ip6 daddr"),
        Set::new(ALLOWED, SetKind::Counted, limits::BY_MAC),
        Set::new(DENIED, SetKind::Counted, limits::BY_MAC),
    ];
    let told = [PREFIX_ALLOW, PREFIX_DENY, PREFIX_LIMIT];
    sets.extend(told.map(|prefix| Set::new(text::log_set(prefix), SetKind::Rates, limits::BY_MAC)));
    sets.extend(wanted.qemu_users.as_ref().map(|_| host::told_qemu()));
    sets.extend(unique(
        wanted.policies.values().flat_map(|policy| limits::inet_sets(&policy.limits)),
    ));
    let mut chains = forward::shared(wanted);
    chains.extend(host::chains(wanted));
    for (owner, policy) in wanted.policies {
        chains.extend(forward::of_policy(wanted, owner, policy));
    }
    Rules { family: FAMILY_INET, sets, chains }
}

fn unique(sets: impl Iterator<Item = Set>) -> Vec<Set> {
    let mut all: Vec<Set> = Vec::new();
    for set in sets {
        if !all.contains(&set) {
            all.push(set);
        }
    }
    all
}

/// The wanted table, sets and chains. The chains are without rules, and no machine is connected.
fn emptied(table: &Table, rules: &Rules) -> String {
    let parts = rules.sets.iter().map(text::set).chain(rules.chains.iter().map(text::declare));
    let flush =
        |what: &str, name: &str| format!("flush {what} {} {}{name}\n", rules.family, table.name());
    let sets = rules.sets.iter().filter_map(|set| match set.kind {
        SetKind::Members => Some(flush("set", &format!(" {}", set.name))),
        SetKind::Verdicts => Some(flush("map", &format!(" {}", set.name))),
        SetKind::Counted | SetKind::Rates | SetKind::Connections => None,
    });
    [block(table, rules.family, parts), flush("table", "")].into_iter().chain(sets).collect()
}

fn chains_gone(wanted: &Wanted<'_>, owner: &OwnerUid) -> String {
    let chains = OwnerChains::of(owner);
    let gone = |family: &str, names: &[&str]| -> String {
        // Like the table, a missing set is made first.
        let line = |verb: &str, name: &str| {
            format!("{verb} chain {family} {} {name}\n", wanted.table.name())
        };
        let added: String = names.iter().map(|name| line("add", name)).collect();
        names.iter().fold(added, |text, name| text + &line("delete", name))
    };
    gone(FAMILY_BRIDGE, &chains.in_bridge()) + &gone(FAMILY_INET, &chains.in_inet())
}

fn block(table: &Table, family: &str, parts: impl Iterator<Item = String>) -> String {
    format!("table {family} {} {{\n{}}}\n", table.name(), parts.collect::<String>())
}
