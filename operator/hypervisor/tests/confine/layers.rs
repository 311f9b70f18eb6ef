//! The layers around the QEMU of a machine, as the kernel and QEMU itself say: not what was configured, what is.

use std::collections::BTreeSet;
use std::path::PathBuf;

use agentvm_core::names::DomainName;

use crate::{pid, status, virsh};

/// All that a guest can talk to. `virtio-net` where its layout has a network.
const DEVICES: [&str; 10] = [
    "virtio-9p",
    "virtio-blk",
    "virtio-net",
    "virtio-rng",
    "virtio-serial",
    "virtserialport",
    "isa-serial",
    "port92",
    "hpet",
    "ioapic",
];
/// What a q35 is made of.
const BOARD: [&str; 12] = [
    "ICH9-LPC",
    "q35-pcihost",
    "mch",
    "fw_cfg_io",
    "i8257",
    "isa-i8259",
    "isa-pit",
    "isa-pcspk",
    "mc146818rtc",
    "kvmvapic",
    "kvm-",
    "pcspk",
];

pub fn are_there(name: &DomainName) {
    let pid = pid(name);
    let users = status(pid, "Uid");
    assert!(users.iter().all(|uid| *uid == users[0] && uid.parse::<u32>().unwrap() >= 2_100_000_000), "{users:?}");
    assert!(!status(pid, "Gid").contains(&"0".to_owned()) && !status(pid, "Groups").contains(&"0".to_owned()));
    assert_eq!(status(pid, "Seccomp"), ["2"], "a filter");
    assert_eq!(status(pid, "NoNewPrivs"), ["1"]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(pid, set), ["0000000000000000"], "{set}");
    }
    let namespace = |of: &str| std::fs::read_link(PathBuf::from(format!("/proc/{of}/ns/mnt"))).unwrap();
    assert_ne!(namespace(&pid.to_string()), namespace("self"), "its mounts are its own");
    command_line(pid);
    devices(name);
    let tuned = virsh(&["memtune", name.as_str()]);
    let limit = tuned.lines().find_map(|line| line.strip_prefix("hard_limit")).unwrap();
    assert!(limit.trim_start_matches([' ', ':']).parse::<u64>().is_ok(), "KiB, not unlimited: {tuned}");
}

fn command_line(pid: u32) {
    let text = String::from_utf8(std::fs::read(format!("/proc/{pid}/cmdline")).unwrap()).unwrap();
    let arguments: Vec<&str> = text.split('\0').collect();
    let after = |option: &str| arguments.iter().position(|word| *word == option).map(|at| arguments[at + 1]);
    let sandbox = after("-sandbox").unwrap();
    for part in ["on", "obsolete=deny", "elevateprivileges=deny", "spawn=deny", "resourcecontrol=deny"] {
        assert!(sandbox.split(',').any(|word| word == part), "{part}: {sandbox}");
    }
    for option in ["-nodefaults", "-no-user-config"] {
        assert!(arguments.contains(&option), "{option}");
    }
    assert_eq!(after("-display"), Some("none"));
    // No network of QEMU's own: it has its interface as an open file, or none.
    for word in ["user,", "-nic", "hostfwd", "socket,listen", "vnc", "spice"] {
        assert!(!arguments.iter().any(|argument| argument.starts_with(word)), "{word}: {text}");
    }
}

fn devices(name: &DomainName) {
    let tree = virsh(&["qemu-monitor-command", name.as_str(), "--hmp", "info qtree"]);
    let there: BTreeSet<&str> =
        tree.lines().filter_map(|line| line.trim().strip_prefix("dev: ")?.split(',').next()).collect();
    let known = |device: &&str| DEVICES.iter().chain(&BOARD).any(|known| device.starts_with(known));
    let others: Vec<&&str> = there.iter().filter(|device| !known(device)).collect();
    assert!(others.is_empty(), "nobody asked for {others:?}");
    assert!(there.contains("virtio-9p-pci") && there.contains("ICH9-LPC"), "the list is one: {there:?}");
}
