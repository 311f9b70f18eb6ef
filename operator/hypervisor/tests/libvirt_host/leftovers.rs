//! The remains of an installation on its host after a test that failed before `release`.

use std::process::Command;

use agentvm_core::names::InstanceId;
use agentvm_core::network::Table;

/// The output of the command; empty if it failed.
pub fn virsh(arguments: &[&str]) -> String {
    let output = Command::new("virsh")
        .args(["-q", "-c", "qemu:///system"])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// libvirt's names of this installation's domains.
pub fn domains(instance: &InstanceId) -> Vec<String> {
    let all = virsh(&["list", "--all", "--name"]);
    all.lines()
        .filter(|name| name.starts_with(&format!("avm-{instance}-")))
        .map(str::to_owned)
        .collect()
}

/// libvirt's networks of this installation.
pub fn networks(instance: &InstanceId) -> Vec<String> {
    let mine =
        |name: &&str| !name.is_empty() && virsh(&["net-dumpxml", name]).contains(instance.as_str());
    virsh(&["net-list", "--all", "--name"]).lines().filter(mine).map(str::to_owned).collect()
}

/// Machines go first, and their taps with them; then their networks, and the rules.
pub fn remove(instance: &InstanceId) {
    for name in domains(instance) {
        virsh(&["destroy", &name]);
        virsh(&["undefine", &name]);
    }
    for name in networks(instance) {
        virsh(&["net-destroy", &name]);
        virsh(&["net-undefine", &name]);
    }
    for family in ["bridge", "inet"] {
        let table = Table::of(instance);
        let _ = Command::new("nft").args(["delete", "table", family, table.name()]).output();
    }
}
