//! nft and the kernel take every text, in a network namespace of its own.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use agentvm_crds::Protocol;
use agentvm_types::OwnerUid;

use super::sample::{Sample, allow, policy};
use crate::network::Policy;
use crate::network::rules::{
    add_link, remove_link, write, write_anew, write_none, write_owner, write_qemu_only,
    write_shared,
};

/// Runs the texts one after the other, each as a transaction, in a fresh namespace; then a shell
/// line.
fn nft(texts: &[String], then: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut script = "set -e\n".to_owned();
    for (at, text) in texts.iter().enumerate() {
        let file = folder.path().join(format!("{at}.nft"));
        std::fs::write(&file, text).unwrap();
        script = script + "nft -f " + &file.display().to_string() + "\n";
    }
    let mut shell = Command::new("unshare")
        .args(["--net", "sh", "-s"])
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all((script + then).as_bytes()).unwrap();
    let done = shell.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn nft_takes_what_is_written_in_any_order() {
    let sample = Sample::new();
    let (wanted, table) = (sample.wanted(), &sample.table);
    let text = write(&wanted);
    let mut steps = vec![write_none(table), text.clone(), text.clone(), write_anew(&wanted)];
    for link in [&sample.links[0], &sample.links[3]] {
        steps.extend([remove_link(table, link), add_link(table, link), add_link(table, link)]);
    }
    let dual = Sample::dual();
    steps.extend([write(&dual.wanted()), write_anew(&dual.wanted())]);
    steps.extend([
        remove_link(table, &dual.links[0]),
        add_link(table, &dual.links[0]),
        add_link(table, &dual.links[0]),
    ]);
    for owner in sample.policies.keys().chain(sample.before.keys()) {
        steps.extend([write_owner(&dual.wanted(), owner), write_shared(&dual.wanted())]);
        steps.extend([write_shared(&wanted), write_owner(&wanted, owner)]);
    }
    steps.extend([text, write_none(table)]);
    assert_eq!(nft(&steps, "nft list ruleset"), "");
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn nft_takes_every_policy() {
    let all = [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "203.0.113.0/25",
        "203.0.113.128/25",
        "1.0.0.0/8",
        "::/0",
        "fd00::/8",
        "fd99::/64",
    ];
    let mut sample = Sample::new();
    let ports: Vec<u16> = (1..=64).map(|port| port * 7).chain([65_535, 1, 2, 3]).collect();
    let odd = Policy {
        allow: vec![
            allow(Protocol::Tcp, &ports, &all),
            allow(Protocol::Udp, &[53], &["10.0.0.2/32"]),
            allow(Protocol::Udp, &[], &all),
            allow(Protocol::Icmp, &[], &all),
            allow(Protocol::Tcp, &[], &[]),
        ],
        resolvers: Vec::new(),
        limits: crate::network::LinkLimits {
            bytes_per_second: Some(4_000_000_000),
            packets_per_second: 1_000_000,
            connections: 65_536,
        },
        ..policy()
    };
    let slow = Policy {
        resolvers: ["10.0.0.2", "10.0.0.3", "203.0.113.53"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        limits: crate::network::LinkLimits {
            bytes_per_second: Some(65_536),
            packets_per_second: 100,
            connections: 1,
        },
        ..policy()
    };
    sample.policies.insert(OwnerUid::new("uid-dual"), Policy { ipv6: true, ..odd.clone() });
    sample.policies.insert(OwnerUid::new("uid-odd"), odd);
    sample.policies.insert(OwnerUid::new("uid-slow"), slow);
    let first = write(&sample.wanted());
    sample.before = sample.policies.clone();
    sample.policies.remove("uid-odd");
    let odd = OwnerUid::new("uid-odd");
    let chains = crate::network::rules::names::OwnerChains::of(&odd);
    for text in [write(&sample.wanted()), write_owner(&sample.wanted(), &odd)] {
        let listed = nft(&[first.clone(), text], "nft list chains; nft list sets");
        for chain in chains.in_bridge().into_iter().chain(chains.in_inet()) {
            assert!(!listed.contains(chain), "{chain} is left");
        }
    }
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_rewrite_and_an_opening_keep_what_was_counted() {
    let sample = Sample::new();
    let (text, link) = (write(&sample.wanted()), &sample.links[0]);
    let set = format!("inet {} allowed", sample.table.name());
    let address = link.nic.mac;
    let seven = format!(
        "add element {set} {{ {address} }}\ndelete element {set} {{ {address} }}\nadd element \
            {set} {{ {address} counter packets 7 bytes 8 }}\n"
    );
    let steps = [
        text.clone(),
        seven,
        text,
        remove_link(&sample.table, link),
        add_link(&sample.table, link),
    ];
    let listed = nft(&steps, &format!("nft list set {set}"));
    assert!(listed.contains(&format!("{address} counter packets 7 bytes 8")), "{listed}");
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_qemu_is_confined_without_the_rest_and_beside_it() {
    let sample = Sample::new();
    let only = write_qemu_only(&sample.table, 2_100_000_000..=2_100_065_535);
    let listed = nft(&[only.clone(), only.clone()], "nft list ruleset");
    let drops = |text: &str| text.matches("meta skuid 2100000000-2100065535 drop").count();
    assert_eq!((drops(&listed), listed.matches("chain").count()), (1, 1), "{listed}");
    // The chains may come in any order.
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let both = nft(
        &[only.clone(), write(&sample.wanted()), only, write(&sample.wanted())],
        "nft list ruleset",
    );
    assert!(lines(&both) == lines(&nft(&[write(&sample.wanted())], "nft list ruleset")), "{both}");
    assert_eq!(drops(&both), 1);
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_text_that_fails_changes_nothing() {
    let sample = Sample::new();
    let broken = write_anew(&sample.wanted()) + "add element inet nowhere x { 1 }\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.nft");
    std::fs::write(&file, broken).unwrap();
    let same = format!(
        "nft list ruleset >{0}/a; ! nft -f {1} 2>/dev/null; nft list ruleset >{0}/b; cmp {0}/a \
            {0}/b",
        folder.path().display(),
        file.display()
    );
    nft(&[write(&sample.wanted())], &same);
}
