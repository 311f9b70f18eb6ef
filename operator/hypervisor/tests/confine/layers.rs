//! The layers around the QEMU of a machine, as the kernel and QEMU itself report them: the facts,
//! not the configuration.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use agentvm_core::names::DomainName;
use agentvm_hypervisor::MachineRecord;

use crate::{pid, status, virsh};

/// All devices that a guest can talk to. `virtio-net` is there only where the machine has a
/// network.
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
/// The parts of a q35.
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

pub fn are_there(machine: &MachineRecord) {
    let (name, tap) = (&machine.name, machine.nic.as_ref().map(|nic| nic.tap.as_str()));
    let pid = pid(name);
    let users = status(pid, "Uid");
    assert!(
        users.iter().all(|uid| *uid == users[0] && uid.parse::<u32>().unwrap() >= 2_100_000_000),
        "{users:?}"
    );
    assert!(
        !status(pid, "Gid").contains(&"0".to_owned())
            && !status(pid, "Groups").contains(&"0".to_owned())
    );
    assert_eq!(status(pid, "Seccomp"), ["2"], "a filter");
    assert_eq!(status(pid, "NoNewPrivs"), ["1"]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(pid, set), ["0000000000000000"], "{set}");
    }
    let namespace =
        |of: &str| std::fs::read_link(PathBuf::from(format!("/proc/{of}/ns/mnt"))).unwrap();
    assert_ne!(namespace(&pid.to_string()), namespace("self"), "its mounts are its own");
    command_line(pid, tap.is_some());
    assert_eq!(taps(pid), tap.into_iter().collect::<Vec<_>>(), "its own link, open, and no other");
    sockets(pid);
    devices(name, tap.is_some());
    let tuned = virsh(&["memtune", name.as_str()]);
    let limit = tuned.lines().find_map(|line| line.strip_prefix("hard_limit")).unwrap();
    assert!(
        limit.trim_start_matches([' ', ':']).parse::<u64>().is_ok(),
        "KiB, not unlimited: {tuned}"
    );
}

fn command_line(pid: u32, networked: bool) {
    let text = String::from_utf8(std::fs::read(format!("/proc/{pid}/cmdline")).unwrap()).unwrap();
    let arguments: Vec<&str> = text.split('\0').collect();
    let after = |option: &str| {
        arguments.iter().position(|word| *word == option).map(|at| arguments[at + 1])
    };
    let sandbox = after("-sandbox").unwrap();
    for part in
        ["on", "obsolete=deny", "elevateprivileges=deny", "spawn=deny", "resourcecontrol=deny"]
    {
        assert!(sandbox.split(',').any(|word| word == part), "{part}: {sandbox}");
    }
    for option in ["-nodefaults", "-no-user-config"] {
        assert!(arguments.contains(&option), "{option}");
    }
    assert_eq!(after("-display"), Some("none"));
    // QEMU makes no network itself: its interface is an open file, or there is none.
    let networks: Vec<&str> =
        arguments.windows(2).filter(|two| two[0] == "-netdev").map(|two| two[1]).collect();
    assert_eq!(networks.len(), usize::from(networked), "{networks:?}");
    for network in networks {
        let given = (network.contains("\"type\":\"tap\"") && network.contains("\"fd\":"))
            || network.starts_with("tap,fd=");
        assert!(given && !network.contains("vhost"), "{network}");
    }
    for word in ["-net", "-nic", "-vnc", "-spice", "-gdb", "-s", "-qmp", "-monitor"] {
        assert!(!arguments.contains(&word), "{word}: {text}");
    }
}

/// The links whose frames it reads and writes.
fn taps(pid: u32) -> Vec<String> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    texts
        .filter_map(|text| {
            Some(text.lines().find_map(|line| line.strip_prefix("iff:"))?.trim().to_owned())
        })
        .collect()
}

/// It has no network socket. It listens only at the sockets that libvirt and the preload library
/// made.
fn sockets(pid: u32) {
    let of = |process: u32, which: &[&str]| {
        let output = Command::new("ss").args(["-H", "-n", "-p"]).args(which).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .filter(|line| line.contains(&format!("pid={process},")))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let network = ["-a", "-A", "inet,packet,vsock"];
    let control = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(!of(std::process::id(), &network).is_empty(), "{control:?}");
    assert_eq!(of(pid, &network), Vec::<String>::new(), "sockets of a network");
    let listening = of(pid, &["-l", "-x"]);
    let known = |line: &&String| {
        ["/monitor.sock ", "/agent.sock ", "/reset/sock "].iter().any(|path| line.contains(path))
    };
    let others: Vec<_> = listening.iter().filter(|line| !known(line)).collect();
    assert!(others.is_empty() && listening.len() >= 2, "{listening:#?}");
}

fn devices(name: &DomainName, networked: bool) {
    let tree = virsh(&["qemu-monitor-command", name.as_str(), "--hmp", "info qtree"]);
    let there: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.trim().strip_prefix("dev: ")?.split(',').next())
        .collect();
    let known = |device: &&str| DEVICES.iter().chain(&BOARD).any(|known| device.starts_with(known));
    let others: Vec<&&str> = there.iter().filter(|device| !known(device)).collect();
    assert!(others.is_empty(), "nobody asked for {others:?}");
    assert_eq!(there.contains("virtio-net-pci"), networked, "{there:?}");
    assert!(
        there.contains("virtio-9p-pci") && there.contains("ICH9-LPC"),
        "the list is one: {there:?}"
    );
}
