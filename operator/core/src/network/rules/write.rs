//! The whole table as one transaction.

use agentvm_types::OwnerUid;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::ir::{Chain, Rules, Set, SetKind};
use super::names::{
    ALLOWED, ARRIVING, BRIDGED, CALLERS, DENIED, FAMILY_BRIDGE, FAMILY_INET, HEARD, LEASED,
    LEAVING, LINKED, OwnerChains, PINNED, PLUGGED, POOLS, PREFIX_ALLOW, PREFIX_DENY, PREFIX_FRAME,
    PREFIX_LIMIT, REFUSED, STATIONS,
};
use super::{Wanted, bridged, elements, forward, frames, host, leases, limits, text};
use crate::network::{Policy, Table};

/// The wanted table, whatever it is now. The counters and limits of its machines stay.
pub fn write(wanted: &Wanted<'_>) -> String {
    let families = [in_bridge(wanted), in_inet(wanted)];
    let mut out: String = families.iter().map(|rules| emptied(wanted.table, rules)).collect();
    out += &gone(wanted);
    out.extend(families.iter().map(|rules| filled(wanted.table, rules)));
    let links = wanted.links.iter().filter(|link| wanted.policies.contains_key(&link.owner_uid));
    out.extend(links.map(|link| elements::add_link(wanted.table, link)));
    out.extend(wanted.leases.iter().map(|lease| leases::grant(wanted.table, lease)));
    out
}

/// The chains and sets of one owner, in place of its earlier ones. Nothing of another owner is in
/// this text, so neither its size nor its failure has anything to do with other owners.
pub fn write_owner(wanted: &Wanted<'_>, owner_uid: &OwnerUid) -> String {
    let families = wanted.policies.get(owner_uid).map(|policy| of_owner(wanted, owner_uid, policy));
    let families = families.iter().flatten();
    let mut out: String = families.clone().map(|rules| unfilled(wanted.table, rules)).collect();
    out += &gone(wanted);
    out.extend(families.map(|rules| filled(wanted.table, rules)));
    out
}

/// The chains that all owners share, in place of the earlier ones.
pub fn write_shared(wanted: &Wanted<'_>) -> String {
    let families = [
        Rules { family: FAMILY_BRIDGE, sets: Vec::new(), chains: frames::shared(wanted) },
        Rules { family: FAMILY_INET, sets: Vec::new(), chains: shared_in_inet(wanted) },
    ];
    let unfilled = families.iter().map(|rules| unfilled(wanted.table, rules));
    unfilled.chain(families.iter().map(|rules| filled(wanted.table, rules))).collect()
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
        chains.extend(owner_in_bridge(wanted, owner, policy));
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
    let mut chains = shared_in_inet(wanted);
    for (owner, policy) in wanted.policies {
        chains.extend(forward::of_policy(wanted, owner, policy));
    }
    Rules { family: FAMILY_INET, sets, chains }
}

fn shared_in_inet(wanted: &Wanted<'_>) -> Vec<Chain> {
    forward::shared(wanted).into_iter().chain(host::chains(wanted)).collect()
}

fn owner_in_bridge(wanted: &Wanted<'_>, owner_uid: &OwnerUid, policy: &Policy) -> [Chain; 3] {
    let [leave, arrive] = limits::of_policy(owner_uid, policy);
    [leave, arrive, bridged::chain(wanted, owner_uid, policy)]
}

/// The sets and chains of one owner.
fn of_owner(wanted: &Wanted<'_>, owner_uid: &OwnerUid, policy: &Policy) -> [Rules; 2] {
    let [bridge, inet] = sets_of(policy);
    let in_bridge = owner_in_bridge(wanted, owner_uid, policy).into();
    let in_inet = forward::of_policy(wanted, owner_uid, policy).into();
    [
        Rules { family: FAMILY_BRIDGE, sets: bridge.1, chains: in_bridge },
        Rules { family: FAMILY_INET, sets: inet.1, chains: in_inet },
    ]
}

/// The sets that the rules of a policy refer to, by family.
fn sets_of(policy: &Policy) -> [(&'static str, Vec<Set>); 2] {
    [
        (FAMILY_BRIDGE, limits::bridge_sets(&policy.limits)),
        (FAMILY_INET, limits::inet_sets(&policy.limits)),
    ]
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
    let flush =
        |what: &str, name: &str| format!("flush {what} {} {}{name}\n", rules.family, table.name());
    let sets = rules.sets.iter().filter_map(|set| match set.kind {
        SetKind::Members => Some(flush("set", &format!(" {}", set.name))),
        SetKind::Verdicts => Some(flush("map", &format!(" {}", set.name))),
        SetKind::Counted | SetKind::Rates | SetKind::Connections => None,
    });
    [declared(table, rules), flush("table", "")].into_iter().chain(sets).collect()
}

/// These sets and chains, and no rule in these chains.
fn unfilled(table: &Table, rules: &Rules) -> String {
    let flush = |chain: &Chain| in_chain("flush", table, rules.family, &chain.name);
    [declared(table, rules)].into_iter().chain(rules.chains.iter().map(flush)).collect()
}

fn declared(table: &Table, rules: &Rules) -> String {
    let parts = rules.sets.iter().map(text::set).chain(rules.chains.iter().map(text::declare));
    block(table, rules.family, parts)
}

fn filled(table: &Table, rules: &Rules) -> String {
    block(table, rules.family, rules.chains.iter().map(text::rules))
}

/// Takes away the chains of owners that have no policy any more, and the sets that no policy uses
/// any more: a set keeps memory of the kernel for as long as it exists.
fn gone(wanted: &Wanted<'_>) -> String {
    let owners = wanted.before.keys().filter(|owner| !wanted.policies.contains_key(*owner));
    let chains: String = owners.map(|owner| chains_gone(wanted.table, owner)).collect();
    let used: BTreeSet<String> =
        wanted.policies.values().flat_map(sets_of).flat_map(|(_, sets)| names(sets)).collect();
    let mut seen = BTreeSet::new();
    let unused = wanted
        .before
        .values()
        .flat_map(sets_of)
        .flat_map(|(family, sets)| sets.into_iter().map(move |set| (family, set)));
    let unused =
        unused.filter(|(_, set)| !used.contains(&set.name) && seen.insert(set.name.clone()));
    chains + &unused.map(|(family, set)| set_gone(wanted.table, family, &set)).collect::<String>()
}

fn names(sets: Vec<Set>) -> impl Iterator<Item = String> {
    sets.into_iter().map(|set| set.name)
}

fn set_gone(table: &Table, family: &str, set: &Set) -> String {
    // Like the table, a missing set is made first.
    block(table, family, [text::set(set)].into_iter())
        + &format!("delete set {family} {} {}\n", table.name(), set.name)
}

fn chains_gone(table: &Table, owner: &OwnerUid) -> String {
    let chains = OwnerChains::of(owner);
    let gone = |family: &str, names: &[&str]| -> String {
        // Like the table, a missing chain is made first.
        ["add", "flush", "delete"]
            .iter()
            .flat_map(|verb| names.iter().map(|name| in_chain(verb, table, family, name)))
            .collect()
    };
    gone(FAMILY_BRIDGE, &chains.in_bridge()) + &gone(FAMILY_INET, &chains.in_inet())
}

fn in_chain(verb: &str, table: &Table, family: &str, name: &str) -> String {
    format!("{verb} chain {family} {} {name}\n", table.name())
}

fn block(table: &Table, family: &str, parts: impl Iterator<Item = String>) -> String {
    format!("table {family} {} {{\n{}}}\n", table.name(), parts.collect::<String>())
}
