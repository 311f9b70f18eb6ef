//! Breaks one host for each finding. A good host is ok; a broken host gets the right level and a
//! remedy.

use std::path::PathBuf;

use super::*;
use crate::doctor::finding::{Level, can_run};
use crate::doctor::observed::{
    Confined, Confinement, Device, Devices, Disk, Dropper, Filter, Host, HostClock, KvmBoot,
    Libvirt, LogDaemon, Network, Parts, Qemu, QemuConf, Security, Swap, User, Virt,
};
use crate::guest_image::{Description, GuestImage, Part};

/// A host on which every check is ok.
fn good() -> Observed {
    Observed {
        host: Host {
            cpus: 8,
            cpu_model: "A CPU".into(),
            virtualisation: Some("vmx"),
            memory_mib: 32_000,
            available_mib: 30_000,
            kernel: "6.1.0".into(),
            modules: ["kvm", "vhost_vsock", "loop"].map(String::from).to_vec(),
            nftables: Some("nftables v1.0.6".into()),
            swaps: vec![],
            open_files: Some(524_288),
        },
        user: User { name: "root".into(), root: true, groups: vec!["root".into()] },
        devices: Devices {
            kvm: Device::Usable,
            vhost_vsock: Device::Usable,
            loop_control: Device::Usable,
        },
        security: Security { apparmor: false, selinux: Some(false) },
        confinement: Confinement {
            conf: Some(QemuConf::default()),
            first_uid: Some(2_100_000_000),
            uids_taken_by: None,
            cut_off: Some(true),
            controllers: ["cpu", "memory"].map(String::from).to_vec(),
            machines: vec![machine()],
        },
        network: Network {
            conntrack: true,
            forwarding: Some(true),
            addresses: vec![("eth0".into(), "203.0.113.2/24".parse().unwrap())],
            droppers: vec![],
            resolvers: vec!["203.0.113.53".parse().unwrap()],
            filter: Filter::Disabled,
        },
        clock: HostClock {
            now: 2_000_000_000,
            built: Some(1_900_000_000),
            synchronised: Some(true),
        },
        virt: Virt {
            qemu: Ok(Qemu { version: "10.0.2".into(), has_9p: true, has_vsock: true }),
            libvirt: Libvirt {
                uri: "qemu:///system".into(),
                daemon: Ok("11.3.0".into()),
                client: Some("11.3.0".into()),
                libvirtd: Some("/usr/sbin/libvirtd".into()),
                virtlogd: Some("/usr/sbin/virtlogd".into()),
            },
            log_daemon: LogDaemon::Answers,
            kvm_boot: KvmBoot::Booted,
        },
        disk: Disk {
            state_dir: "/var/lib/agentvm".into(),
            examined: "/var/lib/agentvm".into(),
            free_mib: Ok(100_000),
            writable: true,
            attributes: Some(Ok(())),
            blocked_at: None,
            slow_run_folder: false,
        },
        parts: Parts {
            control_plane: Ok("/cache/cp".into()),
            image: Ok(GuestImage {
                dir: "/cache/image".into(),
                description: Description {
                    name: "debian".into(),
                    agent_version: "0.1.0".into(),
                    kernel: Part { file: "vmlinuz".into() },
                },
            }),
            preload: Ok("/usr/lib/agentvm/libagentvm_preload.so".into()),
        },
    }
}

fn machine() -> Confined {
    Confined {
        name: "avm-1-2-0".into(),
        uid: 2_100_000_007,
        seccomp: true,
        no_new_privileges: true,
        no_capabilities: true,
        own_mounts: true,
    }
}

/// Breaks one thing and returns the one finding that isn't ok.
fn broken(id: &str, how: impl FnOnce(&mut Observed)) -> Finding {
    let mut seen = good();
    how(&mut seen);
    all(&seen).into_iter().find(|finding| finding.id == id).unwrap()
}

fn swap(path: &str, in_memory: bool, encrypted: bool) -> Swap {
    Swap { path: path.into(), in_memory, encrypted }
}

fn assert_level(id: &str, level: Level, said: &str, how: impl FnOnce(&mut Observed)) {
    let finding = broken(id, how);
    assert_eq!(finding.level, level, "{finding:?}");
    assert!(finding.found.contains(said) || finding.mend.contains(said), "{said}: {finding:?}");
    assert!(
        finding.level < Level::Warning || !finding.mend.is_empty(),
        "the remedy is missing: {finding:?}"
    );
}

#[test]
fn a_good_host_has_nothing_to_mend() {
    let findings = all(&good());
    let odd: Vec<_> = findings.iter().filter(|finding| finding.level != Level::Ok).collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert!(can_run(&findings));
    let mut ids: Vec<_> = findings.iter().map(|finding| finding.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), findings.len(), "ids are unique");
}

#[test]
fn every_finding_is_documented() {
    let manual = include_str!("../../../../docs/troubleshooting.md");
    for finding in all(&good()) {
        assert!(
            manual.contains(&format!("| `{}` |", finding.id)),
            "{} is missing in docs/troubleshooting.md",
            finding.id
        );
    }
}

#[test]
fn missing_virtualisation_is_slower_not_fatal() {
    assert_level("cpu", Level::Warning, "nested", |seen| seen.host.virtualisation = None);
    assert_level("cpu", Level::Warning, "One CPU", |seen| seen.host.cpus = 1);
    assert_level("kvm-device", Level::Warning, "modprobe", |seen| {
        seen.devices.kvm = Device::Absent;
    });
    assert_level("kvm-device", Level::Warning, "usermod -aG kvm dev", |seen| {
        seen.devices.kvm = Device::Refused("Permission denied".into());
        seen.user = User { name: "dev".into(), root: false, groups: Vec::new() };
    });
    assert_level("kvm-boot", Level::Warning, "no boot; MSR", |seen| {
        seen.virt.kvm_boot = KvmBoot::Failed("no boot\nMSR 0x10a".into());
    });
    assert_level("kvm-boot", Level::Info, "not tried", |seen| {
        seen.virt.kvm_boot = KvmBoot::Untried("no image".into());
    });
    assert_level("vsock", Level::Info, "virtio-serial", |seen| {
        seen.devices.vhost_vsock = Device::Absent;
    });
}

#[test]
fn memory_and_disk_have_a_floor_and_a_recommendation() {
    assert_level("memory", Level::Error, "1024", |seen| seen.host.available_mib = 1023);
    assert_level("memory", Level::Warning, "light", |seen| seen.host.available_mib = 1024);
    assert_level("open-files", Level::Warning, "LimitNOFILE", |seen| {
        seen.host.open_files = Some(4095);
    });
    assert_level("disk-space", Level::Error, "larger", |seen| seen.disk.free_mib = Ok(4095));
    assert_level("disk-space", Level::Warning, "larger", |seen| seen.disk.free_mib = Ok(4096));
    assert_level("disk-space", Level::Error, "another", |seen| {
        seen.disk.free_mib = Err("I/O error".into());
    });
}

#[test]
fn old_or_missing_qemu_and_libvirt_are_fatal() {
    let version = |text: &str| Ok(Qemu { version: text.into(), has_9p: true, has_vsock: true });
    assert_level("qemu", Level::Error, "older than 8.2", |seen| seen.virt.qemu = version("7.2.1"));
    assert_level("qemu", Level::Error, "older than 8.2", |seen| seen.virt.qemu = version("8.1.0"));
    assert_level("qemu", Level::Ok, "8.2", |seen| seen.virt.qemu = version("8.2.0"));
    assert_level("qemu", Level::Warning, "unknown", |seen| seen.virt.qemu = version("mine"));
    assert_level("qemu", Level::Error, "apt-get", |seen| {
        seen.virt.qemu = Err("there is no program".into());
    });
    assert_level("qemu-9p", Level::Error, "virtfs", |seen| {
        seen.virt.qemu = Ok(Qemu { version: "10.0.2".into(), has_9p: false, has_vsock: false });
    });
    assert_level("libvirt", Level::Error, "older than 9.0", |seen| {
        seen.virt.libvirt.daemon = Ok("8.10.0".into());
    });
}

#[test]
fn the_way_of_resets_is_named_with_what_keeps_it_from_being_better() {
    assert_level("reset-tier", Level::Ok, "InPlace", |_| {});
    assert_level("reset-tier", Level::Warning, "AGENTVM_PRELOAD", |seen| {
        seen.parts.preload = Err("it is nowhere to be found".into());
    });
    let old = |text: &str| Ok(Qemu { version: text.into(), has_9p: true, has_vsock: true });
    assert_level(
        "reset-tier",
        Level::Warning,
        "Fresh (a new process for every run): QEMU 8.1.0",
        |seen| {
            seen.virt.qemu = old("8.1.0");
        },
    );
    assert_level("reset-tier", Level::Warning, "libvirt 8.10.0 is older than 9.0", |seen| {
        seen.virt.libvirt.daemon = Ok("8.10.0".into());
    });
    assert_level("reset-tier", Level::Warning, "--state-dir", |seen| {
        seen.disk.state_dir = "/srv/a b".into();
    });
    assert_level("reset-tier", Level::Info, "/var/lib/agentvm/preload/** mr,", |seen| {
        seen.security.apparmor = true;
    });
    assert_level("reset-tier", Level::Info, "restorecon", |seen| {
        seen.security.selinux = Some(true);
    });
    assert_level("reset-tier", Level::Ok, "InPlace", |seen| {
        seen.virt.libvirt.daemon = Err("not started yet".into());
    });
}

#[test]
fn a_libvirt_that_does_not_answer_is_started_only_by_root_and_only_the_systems() {
    let silent = |seen: &mut Observed| seen.virt.libvirt.daemon = Err("no socket".into());
    assert_level("libvirt", Level::Info, "standalone", silent);
    assert_level("libvirt", Level::Warning, "usermod -aG libvirt", |seen| {
        silent(seen);
        seen.user.root = false;
    });
    assert_level("libvirt", Level::Error, "no virtlogd", |seen| {
        silent(seen);
        seen.virt.libvirt.virtlogd = None;
    });
    assert_level("libvirt", Level::Warning, "no virsh", |seen| {
        silent(seen);
        seen.virt.libvirt.client = None;
    });
    assert_level("libvirt", Level::Error, "libvirt.uri", |seen| {
        silent(seen);
        seen.virt.libvirt.uri = "qemu+ssh://other/system".into();
    });
}

#[test]
fn a_log_daemon_that_does_not_answer_is_fatal_where_libvirt_needs_it() {
    let silent = |seen: &mut Observed| {
        seen.virt.log_daemon = LogDaemon::Silent("/run/x: Connection refused".into());
    };
    assert_level("log-daemon", Level::Error, "virtlogd -d", silent);
    assert_level("log-daemon", Level::Error, "/run/x: Connection refused", silent);
    assert_level("log-daemon", Level::Error, "apt-get", |seen| {
        silent(seen);
        seen.virt.libvirt.virtlogd = None;
    });
    let handler = |seen: &mut Observed, handler: &str| {
        seen.confinement.conf.as_mut().unwrap().stdio_handler = Some(handler.to_owned());
    };
    assert_level("log-daemon", Level::Ok, "not needed", |seen| {
        silent(seen);
        handler(seen, "file");
    });
    assert_level("log-daemon", Level::Error, "virtlogd.socket", |seen| {
        silent(seen);
        handler(seen, "logd");
    });
    assert_level("log-daemon", Level::Info, "sudo", |seen| {
        seen.virt.log_daemon = LogDaemon::Refused;
    });
    assert_level("log-daemon", Level::Ok, "only if libvirt answers", |seen| {
        seen.virt.log_daemon = LogDaemon::Unasked;
    });
}

#[test]
fn the_state_directory_must_be_reachable_for_qemu() {
    assert_level("state-dir", Level::Error, "chmod o+x /root", |seen| {
        seen.disk.blocked_at = Some(PathBuf::from("/root"));
    });
    assert_level("state-dir", Level::Warning, "as root", |seen| seen.disk.writable = false);
    assert_level("state-dir", Level::Ok, "will be created", |seen| {
        seen.disk.examined = "/var/lib".into();
    });
    assert_level("run-folder", Level::Warning, "mount -t tmpfs", |seen| {
        seen.disk.slow_run_folder = true;
    });
    assert_level("file-attributes", Level::Warning, "ext4", |seen| {
        seen.disk.attributes = Some(Err("no".into()));
    });
    assert_level("loop-devices", Level::Error, "modprobe loop", |seen| {
        seen.devices.loop_control = Device::Absent;
    });
}

#[test]
fn an_ordinary_user_is_told_what_works_and_what_does_not() {
    let dev = |groups: &[&str]| User {
        name: "dev".into(),
        root: false,
        groups: groups.iter().map(ToString::to_string).collect(),
    };
    assert_level("user", Level::Warning, "groups libvirt and kvm", |seen| seen.user = dev(&[]));
    assert_level("user", Level::Warning, "-aG kvm dev", |seen| seen.user = dev(&["libvirt"]));
    assert_level("user", Level::Warning, "sudo", |seen| seen.user = dev(&["libvirt", "kvm"]));
}

#[test]
fn confinement_and_time_are_told_with_the_lines_to_write() {
    assert_level(
        "security-modules",
        Level::Warning,
        "\n  owner /srv/x/{,host/}machines/*/overlay.qcow2 rwk,",
        |seen| {
            seen.security.apparmor = true;
            seen.disk.state_dir = "/srv/x".into();
        },
    );
    assert_level("security-modules", Level::Warning, "semanage", |seen| {
        seen.security.selinux = Some(true);
    });
    assert_level("security-modules", Level::Ok, "permissive", |seen| {
        seen.security.selinux = Some(false);
    });
    assert_level("swap", Level::Warning, "may be written to /dev/sda2", |seen| {
        seen.host.swaps = vec![swap("/dev/sda2", false, false), swap("/dev/sdb2", false, true)];
    });
    assert_level("swap", Level::Ok, "or only encrypted", |seen| {
        seen.host.swaps = vec![swap("/dev/zram0", true, false), swap("/dev/dm-0", false, true)];
    });
    assert_level("clock", Level::Error, "behind", |seen| seen.clock.now = 1_800_000_000);
    assert_level("clock", Level::Warning, "timedatectl", |seen| {
        seen.clock.synchronised = Some(false);
    });
    assert_level("nftables", Level::Warning, "Isolated", |seen| seen.host.nftables = None);
    assert_level("nftables", Level::Warning, "no conntrack", |seen| seen.network.conntrack = false);
}

#[test]
fn each_layer_around_qemu_that_is_missing_is_told() {
    let conf =
        |seen: &mut Observed, set: fn(&mut QemuConf)| set(seen.confinement.conf.as_mut().unwrap());
    let running =
        |seen: &mut Observed, set: fn(&mut Confined)| set(&mut seen.confinement.machines[0]);
    let text = |text: &str| Some(text.to_owned());
    assert_level("qemu-user", Level::Warning, "first_uid", |seen| {
        seen.confinement.first_uid = None;
    });
    assert_level("qemu-user", Level::Error, "the user me", |seen| {
        seen.confinement.uids_taken_by = text("the user me");
    });
    assert_level("qemu-user", Level::Info, "avm-1-2-0", |seen| {
        running(seen, |machine| machine.uid = 64055);
    });
    assert_level("qemu-user", Level::Warning, "root", |seen| {
        conf(seen, |conf| conf.user = Some("root".into()));
    });
    for set in [
        (|conf: &mut QemuConf| conf.seccomp_sandbox = Some("0".into())) as fn(&mut QemuConf),
        |conf| {
            conf.clear_capabilities = Some("0".into());
        },
    ] {
        assert_level("qemu-seccomp", Level::Warning, "Remove the line", |seen| conf(seen, set));
    }
    for set in [
        (|machine: &mut Confined| machine.seccomp = false) as fn(&mut Confined),
        |machine| machine.no_capabilities = false,
        |machine| machine.no_new_privileges = false,
    ] {
        assert_level("qemu-seccomp", Level::Warning, "avm-1-2-0", |seen| running(seen, set));
    }
    assert_level("qemu-namespaces", Level::Warning, "namespaces = [ ]", |seen| {
        conf(seen, |conf| conf.namespaces = Some(String::new()));
    });
    assert_level("qemu-namespaces", Level::Warning, "avm-1-2-0", |seen| {
        running(seen, |machine| machine.own_mounts = false);
    });
    assert_level("qemu-network", Level::Warning, "first_uid", |seen| {
        seen.confinement.first_uid = None;
    });
    assert_level("qemu-network", Level::Warning, "Start the operator", |seen| {
        seen.confinement.cut_off = Some(false);
    });
    assert_level("qemu-network", Level::Info, "nftables", |seen| seen.confinement.cut_off = None);
    assert_level("qemu-network", Level::Ok, "before the first", |seen| {
        (seen.confinement.cut_off, seen.confinement.machines) = (Some(false), vec![]);
    });
    assert_level("qemu-profile", Level::Warning, "AppArmor", |seen| {
        seen.security.apparmor = true;
        conf(seen, |conf| conf.security_driver = Some("none".into()));
    });
    assert_level("qemu-limits", Level::Warning, "controller memory", |seen| {
        seen.confinement.controllers = vec!["cpu".into()];
    });
    assert_level("qemu-limits", Level::Warning, "controller cpu and memory", |seen| {
        conf(seen, |conf| conf.cgroup_controllers = Some("devices".into()));
    });
    assert_level("qemu-limits", Level::Ok, "cgroups", |seen| seen.confinement.conf = None);
}

#[test]
fn a_missing_image_is_fatal_and_a_missing_control_plane_is_not() {
    assert_level("guest-image", Level::Error, "make image", |seen| {
        seen.parts.image = Err("there is none".into());
    });
    assert_level("control-plane", Level::Warning, "make controlplane", |seen| {
        seen.parts.control_plane =
            Err("found none; looked in:\n  PATH: no etcd\nbuild one with `make controlplane`"
                .into());
    });
    assert_level("kernel-modules", Level::Info, "modprobe vhost_vsock", |seen| {
        seen.host.modules.clear();
        seen.devices.vhost_vsock = Device::Absent;
    });
}

#[test]
fn firewalls_that_drop_what_is_routed_are_told_for_each_version_of_ip() {
    let dropper = |table: &str, chain: &str, docker_user| Dropper {
        table: table.into(),
        chain: chain.into(),
        docker_user,
    };
    let finding =
        |id, dropper: &Dropper| broken(id, |seen| seen.network.droppers = vec![dropper.clone()]);
    let assert_told = |id, said: &str, dropper: &Dropper| {
        assert_level(id, Level::Warning, said, |seen| {
            seen.network.droppers = vec![dropper.clone()];
        });
    };
    let (four, six) = ("forward-policy", "forward-policy-ipv6");

    let only_four = dropper("ip filter", "FORWARD", false);
    assert_told(four, "\niptables -I FORWARD -i agentvm0", &only_four);
    assert_told(
        four,
        "\niptables -I DOCKER-USER -i agentvm0",
        &dropper("ip filter", "FORWARD", true),
    );
    assert_eq!(finding(six, &only_four).level, Level::Ok);

    let only_six = dropper("ip6 filter", "FORWARD", false);
    assert_told(six, "\nip6tables -I FORWARD -i agentvm0", &only_six);
    assert_told(six, "only to pools with `ipFamilies: [IPv4, IPv6]`", &only_six);
    assert_told(
        six,
        "\nip6tables -I DOCKER-USER -i agentvm0",
        &dropper("ip6 filter", "FORWARD", true),
    );
    assert_eq!(finding(four, &only_six).level, Level::Ok);

    let both = dropper("inet strict", "routed", false);
    assert_told(four, "nft insert rule inet strict routed iifname agentvm0 accept", &both);
    assert_told(six, "nft insert rule inet strict routed iifname agentvm0 accept", &both);
    // iptables would make a second chain with this name.
    assert_told(
        four,
        "nft insert rule ip filter forward oifname agentvm0",
        &dropper("ip filter", "forward", false),
    );
}

#[test]
fn what_is_in_the_way_of_machines_networks_is_named_with_a_way_out() {
    let on = |interface: &str, net: &str| (interface.to_owned(), net.parse().unwrap());
    let ours = broken("machine-subnet", |seen| {
        seen.network.addresses.push(on("agentvm0", "192.168.101.1/24"));
    });
    assert_eq!(ours.level, Level::Ok, "{ours:?}");
    assert_level("machine-subnet", Level::Ok, "192.168.104.0/24 on avmb0a1b2c3d", |seen| {
        seen.network.addresses.push(on("avmb0a1b2c3d", "192.168.104.1/24"));
    });
    assert_level("machine-subnet", Level::Info, "eth1", |seen| {
        seen.network.addresses.push(on("eth1", "192.168.0.7/16"));
    });
    assert_level("ip-forwarding", Level::Info, "libvirt sets it", |seen| {
        seen.network.forwarding = Some(false);
    });
    let filter = |problem: Option<&str>, bridged| Filter::Enabled {
        problem: problem.map(str::to_owned),
        bridged,
    };
    assert_level("libvirt-filter", Level::Ok, "twice as long", |seen| {
        seen.network.filter = filter(None, true);
    });
    assert_level("libvirt-filter", Level::Info, "br_netfilter", |seen| {
        seen.network.filter = filter(None, false);
    });
    assert_level("libvirt-filter", Level::Warning, "no ebtables", |seen| {
        seen.network.filter = filter(Some("there is no ebtables"), true);
    });
    assert_level("resolver", Level::Warning, "no names", |seen| seen.network.resolvers.clear());
    assert_level("resolver", Level::Warning, "itself", |seen| {
        seen.network.resolvers = vec!["203.0.113.2".parse().unwrap()];
    });
}
