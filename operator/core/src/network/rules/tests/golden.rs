//! The texts as they are committed, for people to read. `UPDATE=1 cargo test -p agentvm-core`
//! writes them again.

use super::sample::Sample;
use crate::network::rules::{
    add_link, grant, remove_link, was_heard, write, write_anew, write_qemu_only,
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

#[test]
fn every_name_is_the_installations_own() {
    let sample = Sample::new();
    let text = write_anew(&sample.wanted());
    for line in text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())) {
        assert!(line.contains("agentvm_0a1b2c3d"), "{line}");
    }
    assert!(text.starts_with("add table bridge agentvm_0a1b2c3d\ndelete table"));
}
