//! Checks of the layers that confine a QEMU that an attacker took over: its user, its system calls,
//! its view of the host, its limits. A missing layer is a warning, not an error: runs are still
//! executed, with one wall fewer around them.

use crate::doctor::finding::{Check, Finding};
use crate::doctor::observed::{Confined, Confinement, QemuConf, Security};

const CONF: &str = "/etc/libvirt/qemu.conf";
const RESTART: &str = "then restart libvirt (systemctl restart libvirtd); running machines keep \
                       their old setting";

pub(super) fn users(seen: &Confinement) -> Finding {
    const CHECK: Check = Check {
        id: "qemu-user",
        title: "QEMU's users",
        why: "Each machine's QEMU runs as a user of its own. An attacker who breaks out of one \
              machine can't open the files of another.",
    };
    let Some(first) = seen.first_uid else {
        return CHECK.warning(
            "libvirt.first_uid is off: all machines run as one user",
            "Remove libvirt.first_uid: off from the configuration. Machines that are made after \
             that have users of their own.",
        );
    };
    if let Some(whose) = &seen.uids_taken_by {
        return CHECK.error(
            format!("some of the 65536 numbers from {first} on belong to {whose}"),
            "Set libvirt.first_uid to the first of 65536 unused numbers (see /etc/passwd, \
             /etc/subuid and your directory service), or to off.",
        );
    }
    if told(seen).user.is_some_and(|user| matches!(user.as_str(), "root" | "0" | "+0")) {
        let found = format!("{CONF} runs QEMU as root, and so in root's group (user = \"root\")");
        return CHECK.warning(found, format!("Remove the line, {RESTART}."));
    }
    let others: Vec<&str> = seen
        .machines
        .iter()
        .filter(|machine| machine.uid < first)
        .map(|machine| machine.name.as_str())
        .collect();
    if !others.is_empty() {
        return CHECK.info(
            format!("older machines run as one user: {}", some(&others)),
            "Their pools replace them in time.",
        );
    }
    CHECK.ok(format!("each machine has its own, from {first} on{}", looked_at(&seen.machines)))
}

pub(super) fn system_calls(seen: &Confinement) -> Finding {
    const CHECK: Check = Check {
        id: "qemu-seccomp",
        title: "QEMU's system calls",
        why: "A filter stops QEMU from starting programs, changing users and taking resources. A \
              QEMU without privileges can't get any.",
    };
    let conf = told(seen);
    if conf.seccomp_sandbox.as_deref() == Some("0") {
        let found = format!("{CONF} turns the filter off (seccomp_sandbox = 0)");
        return CHECK.warning(found, format!("Remove the line, {RESTART}."));
    }
    if conf.clear_capabilities.as_deref() == Some("0") {
        let found =
            format!("{CONF} lets QEMU keep its privileges (clear_emulator_capabilities = 0)");
        return CHECK.warning(found, format!("Remove the line, {RESTART}."));
    }
    let confined = |machine: &Confined| {
        machine.seccomp && machine.no_new_privileges && machine.no_capabilities
    };
    match odd(&seen.machines, confined) {
        Some(names) => CHECK.warning(
            format!("machines run without the filter, or with privileges: {names}"),
            "Use a QEMU that was built with seccomp (Debian's and Ubuntu's are). Then the pools \
             replace these machines.",
        ),
        None => CHECK
            .ok(format!("filtered, no other programs, no privileges{}", looked_at(&seen.machines))),
    }
}

pub(super) fn namespaces(seen: &Confinement) -> Finding {
    const CHECK: Check = Check {
        id: "qemu-namespaces",
        title: "QEMU's view of the host",
        why: "libvirt gives each QEMU mounts of its own, with a /dev of a few devices. QEMU shares \
              the host's processes, IPC and network; other layers protect those (its user, the \
              filter, and a rule that drops QEMU's own packets).",
    };
    let conf = told(seen);
    if conf.namespaces.is_some_and(|list| !list.split(' ').any(|kind| kind == "mount")) {
        let found = format!("{CONF} turns mount namespaces off (namespaces = [ ])");
        return CHECK.warning(found, format!("Remove the line, {RESTART}."));
    }
    match odd(&seen.machines, |machine| machine.own_mounts) {
        Some(names) => CHECK.warning(
            format!("machines see all mounts of the host: {names}"),
            "libvirt makes mount namespaces if it runs as root and the kernel allows it. Look into \
             libvirt's log.",
        ),
        None => CHECK.ok(format!(
            "mounts of its own; no namespaces of processes, IPC or network{}",
            looked_at(&seen.machines)
        )),
    }
}

pub(super) fn network(seen: &Confinement) -> Finding {
    const CHECK: Check = Check {
        id: "qemu-network",
        title: "QEMU's own network",
        why: "QEMU is a process of the host, with all of the host's networks. A rule of nftables \
              drops the packets that machines' QEMUs send themselves.",
    };
    if seen.first_uid.is_none() {
        return CHECK.warning(
            "libvirt.first_uid is off: no rule can tell these QEMUs from those of other machines",
            "Remove libvirt.first_uid: off from the configuration. Machines that are made after \
             that have users of their own.",
        );
    }
    match seen.cut_off {
        Some(true) => CHECK.ok("none: a rule drops QEMU's own packets"),
        Some(false) if seen.machines.is_empty() => CHECK.ok("none: the operator makes the rule \
                                                             before the first machine starts"),
        Some(false) => CHECK.warning(
            "machines run, but no rule keeps their QEMUs from the host's network",
            "Start the operator: it makes the rule again together with its others. If machines \
             have no network, it makes the rule before the next machine starts.",
        ),
        None => CHECK.info(
            "nft doesn't show whether the rule exists",
            "Run doctor as root. If nft is missing: apt-get install nftables.",
        ),
    }
}

pub(super) fn profile(seen: &Confinement, security: &Security) -> Finding {
    const CHECK: Check = Check {
        id: "qemu-profile",
        title: "QEMU's security profile",
        why: "On a host with AppArmor or SELinux, libvirt adds a profile that confines each QEMU.",
    };
    let module = match (security.apparmor, security.selinux) {
        (true, _) => "AppArmor",
        (_, Some(true)) => "SELinux",
        _ => {
            return CHECK
                .ok("none: this host has neither AppArmor nor SELinux enforcing; only the other \
                     layers confine QEMU");
        }
    };
    match told(seen).security_driver.as_deref() {
        Some("none") => CHECK.warning(
            format!("{CONF} stops libvirt from using {module} (security_driver = \"none\")"),
            format!(
                "Remove the line, {RESTART}. docs/confinement.md has the lines that {module} needs \
                 for agentvm's folders."
            ),
        ),
        _ => CHECK
            .ok(format!("{module}; docs/confinement.md has the lines that agentvm's folders need")),
    }
}

pub(super) fn limits(seen: &Confinement) -> Finding {
    const CHECK: Check = Check {
        id: "qemu-limits",
        title: "QEMU's limits",
        why: "cgroups limit the processor time and the memory of a machine, through libvirt. QEMU \
              limits its disk, and the guest its processes.",
    };
    let conf = told(seen);
    let used = |name: &str| {
        conf.cgroup_controllers.as_ref().is_none_or(|list| list.split(' ').any(|used| used == name))
    };
    let missing = |there: &dyn Fn(&str) -> bool| {
        ["cpu", "memory"].into_iter().filter(|name| !there(name)).collect::<Vec<_>>().join(" and ")
    };
    let kernel = missing(&|name| seen.controllers.iter().any(|there| there == name));
    let libvirt = missing(&used);
    if !kernel.is_empty() {
        return CHECK.warning(
            format!("the kernel has no cgroup controller {kernel} here"),
            "Boot without cgroup_disable=…; if libvirt runs in a container: mount the host's \
             /sys/fs/cgroup there.",
        );
    }
    if !libvirt.is_empty() {
        let found = format!(
            "{CONF} stops libvirt from using the cgroup controller {libvirt} (cgroup_controllers)"
        );
        return CHECK.warning(found, format!("Add it to the list, {RESTART}."));
    }
    CHECK.ok("processor time and memory by cgroups, disk by QEMU, processes by the guest")
}

/// A file that this user can't read gives no settings. Then the machines that run decide.
fn told(seen: &Confinement) -> QemuConf {
    seen.conf.clone().unwrap_or_default()
}

fn odd(machines: &[Confined], right: impl Fn(&Confined) -> bool) -> Option<String> {
    let names: Vec<&str> =
        machines.iter().filter(|machine| !right(machine)).map(|m| m.name.as_str()).collect();
    (!names.is_empty()).then(|| some(&names))
}

fn some(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

fn looked_at(machines: &[Confined]) -> String {
    match machines.len() {
        0 => "; no machine runs now, so this is not verified".to_owned(),
        1 => "; verified on the one machine that runs".to_owned(),
        count => format!("; verified on all {count} machines that run"),
    }
}
