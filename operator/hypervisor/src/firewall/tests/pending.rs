//! A policy that is made narrower while the kernel's connections can't be looked at.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use agentvm_core::network::{Allow, PortRange, Protocol};

use super::{Lab, OWNER, inside_with, policies, said};

const BROKEN: &str = "AGENTVM_TEST_BROKEN";

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn connections_that_could_not_be_forgotten_are_with_the_next_policies() {
    let dir = tempfile::tempdir().unwrap();
    let test = "pending::connections_that_could_not_be_forgotten_are_with_the_next_policies";
    if !inside_with(test, &broken_on_demand(dir.path())) {
        return;
    }
    let broken = PathBuf::from(std::env::var_os(BROKEN).unwrap());
    let lab = Lab::new(2);
    let mut wide = policies();
    let web = Allow {
        protocol: Protocol::Tcp,
        ports: vec![PortRange { first: 8080, last: 8080 }],
        cidrs: Vec::new(),
    };
    wide.get_mut(OWNER).unwrap().allow.push(web);
    let enforce = |policies| lab.firewall.enforce(&lab.subnet, policies, &[], &lab.machines);
    enforce(wide).unwrap();
    for machine in &lab.machines {
        lab.open(machine);
        let from = lab.link(machine).nic.address().unwrap();
        let connection = format!(
            "-s {from} -d 203.0.113.9 -p tcp --sport 1000 --state ESTABLISHED --timeout 1000"
        );
        said("conntrack", &format!("-I {connection} --dport 8080"));
        said("conntrack", &format!("-I {connection} --dport 443"));
    }
    let left = |port: u16| said("conntrack", &format!("-L -p tcp --dport {port}")).lines().count();
    assert_eq!((left(8080), left(443)), (2, 2));

    fs::write(&broken, "").unwrap();
    let why = enforce(policies()).unwrap()[OWNER].to_string();
    assert!(why.contains("conntrack") && why.contains("out of order"), "{why}");
    fs::remove_file(&broken).unwrap();
    assert_eq!(left(8080), 2);
    assert!(lab.firewall.in_force().unwrap().is_empty(), "a step of it is pending");
    // Nothing is new about these.
    enforce(policies()).unwrap();
    assert_eq!(*lab.firewall.in_force().unwrap(), policies());
    assert_eq!(
        (left(8080), left(443)),
        (0, 2),
        "what is refused by now is forgotten, of both machines"
    );
}

/// A `conntrack` that fails while a file is there.
fn broken_on_demand(dir: &std::path::Path) -> Vec<(&'static str, String)> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = Command::new("sh").args(["-c", "command -v conntrack"]).output().unwrap();
    let real = String::from_utf8(found.stdout).unwrap();
    let broken = dir.join("broken").display().to_string();
    let script = dir.join("conntrack");
    let text = format!(
        "#!/bin/sh\n[ ! -e {broken} ] || {{ echo out of order >&2; exit 2; }}\nexec {} \"$@\"\n",
        real.trim()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    vec![("PATH", format!("{}:{path}", dir.display())), (BROKEN, broken)]
}
