//! The arrows of the architecture, as Cargo sees them.
//!
//! The test asks `cargo tree`, not `cargo metadata`. The latter joins the features of all members,
//! so every user of kube would seem to use kube's client.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as it should be"
)]

use std::collections::BTreeSet;
use std::process::Command;

use agentvm_testing::repository;

/// The names of all packages that a member needs when it is built alone, without its tests.
fn pulled_in_by(member: &str) -> BTreeSet<String> {
    listed_by_cargo(member, &[])
}

/// The names of the packages in a member's own manifest, without its tests.
fn asked_for_by(member: &str) -> BTreeSet<String> {
    listed_by_cargo(member, &["--depth", "1"])
}

fn tree(member: &str, format: &str, more: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let listed = Command::new(cargo)
        .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none"])
        .args(["--format", format, "-p", member])
        .args(more)
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    String::from_utf8(listed.stdout).unwrap()
}

fn listed_by_cargo(member: &str, more: &[&str]) -> BTreeSet<String> {
    let text = tree(member, "{p}", more);
    let names = text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned);
    let all: BTreeSet<_> = names.collect();
    assert!(all.contains(member), "{member} is not in its list, which was not understood: {all:?}");
    let all: BTreeSet<_> = all.into_iter().filter(|name| name != member).collect();
    assert!(
        all.contains("serde") || member == "agentvm-files",
        "{member} without serde: the list was not understood: {all:?}"
    );
    all
}

fn assert_without(member: &str, banned: &[&str]) {
    let all = pulled_in_by(member);
    let found: Vec<_> = banned.iter().filter(|name| all.contains(**name)).collect();
    assert!(found.is_empty(), "{member} must not know {found:?}");
}

fn assert_ours(member: &str, allowed: &[&str]) {
    let ours: Vec<_> =
        pulled_in_by(member).into_iter().filter(|name| name.starts_with("agentvm-")).collect();
    assert_eq!(ours, allowed, "the parts of agentvm that {member} uses");
}

#[test]
fn the_core_only_decides() {
    assert_without(
        "agentvm-core",
        &["tokio", "kube-client", "kube-runtime", "hyper", "virt", "virt-sys"],
    );
    assert_ours("agentvm-core", &["agentvm-crds", "agentvm-types"]);
}

#[test]
fn the_api_types_know_nothing_else() {
    assert_without("agentvm-crds", &["tokio", "kube-client", "kube-runtime", "hyper", "virt"]);
    assert_ours("agentvm-crds", &[]);
}

#[test]
fn the_hypervisor_knows_no_kubernetes_and_no_guest() {
    assert_without(
        "agentvm-hypervisor",
        &["kube-client", "kube-runtime", "agentvm-guest-agent", "agentvm-controlplane"],
    );
    assert_ours(
        "agentvm-hypervisor",
        &["agentvm-core", "agentvm-crds", "agentvm-files", "agentvm-types"],
    );
}

#[test]
fn the_guest_agent_knows_neither_kubernetes_nor_libvirt() {
    assert_without(
        "agentvm-guest-agent",
        &["kube", "kube-core", "kube-client", "k8s-openapi", "virt", "virt-sys"],
    );
    assert_ours("agentvm-guest-agent", &["agentvm-types"]);
}

#[test]
fn identities_and_shared_nouns_need_nothing_but_serde_and_thiserror() {
    let asked = asked_for_by("agentvm-types");
    assert_eq!(asked.iter().collect::<Vec<_>>(), ["serde", "thiserror"]);
    assert_ours("agentvm-types", &[]);
}

#[test]
fn files_need_nothing_but_the_standard_library() {
    assert!(pulled_in_by("agentvm-files").is_empty());
}

#[test]
fn the_control_plane_knows_no_machines() {
    assert_without("agentvm-controlplane", &["virt", "virt-sys"]);
    assert_ours("agentvm-controlplane", &["agentvm-files"]);
}

#[test]
fn the_operator_knows_neither_its_command_line_nor_its_benches() {
    assert_without("agentvm-operator", &["agentvm-cli", "agentvm-bench"]);
    assert_without("agentvm-bench", &["agentvm-cli"]);
}

/// A member's features, as they are when the program `agentvm` is built.
fn features_in_the_product(member: &str) -> Vec<String> {
    let lines = tree("agentvm-cli", "{p} {f}", &[]);
    let lines = lines.lines().filter(|line| line.split(' ').next() == Some(member));
    let features = lines.map(|line| line.trim_end_matches("(*)").rsplit(") ").next().unwrap());
    features.flat_map(|all| all.trim().split(',')).map(str::to_owned).collect()
}

#[test]
fn the_product_has_no_part_that_only_tests_need() {
    assert_without("agentvm-cli", &["agentvm-testing", "agentvm-tests", "tempfile", "proptest"]);
    assert!(!features_in_the_product("agentvm-hypervisor").contains(&"fault-injection".to_owned()));
    assert!(features_in_the_product("agentvm-guest-agent").contains(&"client".to_owned()));
}

#[test]
fn the_list_would_show_a_forbidden_dependency() {
    assert!(pulled_in_by("agentvm-controlplane").contains("kube-client"));
    assert!(pulled_in_by("agentvm-hypervisor").contains("virt"));
}
