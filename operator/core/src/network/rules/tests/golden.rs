//! The texts as they are committed, for people to read. `UPDATE=1 cargo test -p agentvm-core`
//! writes them again.

use std::collections::BTreeMap;

use agentvm_types::OwnerUid;

use super::sample::{Sample, allow, policy};
use crate::network::rules::names::OwnerChains;
use crate::network::rules::{
    add_link, grant, remove_link, was_heard, write, write_anew, write_owner, write_qemu_only,
};

fn assert_committed(name: &str, text: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/network/rules/expected")
        .join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "{name} is not what the rules are: look at UPDATE=1 cargo test -p agentvm-core"
    );
}

#[test]
fn the_texts_are_the_committed_ones() {
    let sample = Sample::new();
    assert_committed("whole.nft", &write(&sample.wanted()));
    assert_committed("open.nft", &add_link(&sample.table, &sample.links[0]));
    assert_committed("close.nft", &remove_link(&sample.table, &sample.links[0]));
    assert_committed("open-bridge.nft", &add_link(&sample.table, &sample.links[3]));
    assert_committed(
        "confined.nft",
        &write_qemu_only(&sample.table, 2_100_000_000..=2_100_065_535),
    );
    let lease = &sample.leases[0];
    assert_committed(
        "lease.nft",
        &(was_heard(&sample.table, lease) + &grant(&sample.table, lease)),
    );
    assert_committed("owner.nft", &write_owner(&sample.wanted(), &OwnerUid::new("uid-registry")));
    let dual = Sample::dual();
    assert_committed("whole-ipv6.nft", &write(&dual.wanted()));
    assert_committed("open-ipv6.nft", &add_link(&dual.table, &dual.links[0]));
}

#[test]
fn where_no_pool_asks_for_ipv6_no_rule_lets_it_through() {
    let text = write(&Sample::new().wanted());
    let rules = text.lines().filter(|line| line.starts_with("\t\t"));
    let about: Vec<_> =
        rules.filter(|line| ["ip6", "icmpv6"].iter().any(|word| line.contains(word))).collect();
    assert_eq!(about, Vec::<&str>::new());
    assert_eq!(text.matches("meta nfproto != ipv4 drop").count(), 2);
}

/// The text of one owner's change is as large as this owner's policy, however many others there
/// are, and names no chain of another.
#[test]
fn the_change_of_one_owner_does_not_grow_with_the_others() {
    let (one, first) = (OwnerUid::new("uid-default"), Sample::new());
    let ports: Vec<u16> = (1..=64).collect();
    let large = crate::network::Policy {
        allow: vec![allow(agentvm_crds::Protocol::Tcp, &ports, &["203.0.113.0/24"]); 8],
        ..policy()
    };
    let mut many = Sample::new();
    many.policies.extend((0..64).map(|at| (OwnerUid::new(format!("large-{at}")), large.clone())));
    many.before = many.policies.clone();
    let text = write_owner(&many.wanted(), &one);
    let mut alone = first.wanted();
    let before = BTreeMap::new();
    alone.before = &before;
    assert_eq!(text, write_owner(&alone, &one));
    let other = OwnerChains::of(&OwnerUid::new("uid-registry"));
    for chain in other.in_bridge().into_iter().chain(other.in_inet()) {
        assert!(!text.contains(chain), "{chain}");
    }
}

/// A set costs the kernel memory from the start, in proportion to its size.
#[test]
fn no_set_of_a_policy_has_room_for_more_than_a_hosts_machines() {
    let text = write(&Sample::new().wanted());
    let sets = text.lines().filter(|line| line.starts_with("\tset ") && line.contains("; size "));
    for set in sets.filter(|set| !set.contains("set heard ")) {
        assert!(set.contains("; size 4096;"), "{set}");
    }
}

#[test]
fn every_name_is_the_installations_own() {
    let sample = Sample::new();
    let text = write_anew(&sample.wanted());
    for line in text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())) {
        assert!(line.contains("agentvm_0a1b2c3d"), "{line}");
    }
    assert!(text.starts_with("add table bridge agentvm_0a1b2c3d\ndelete table"));
}
