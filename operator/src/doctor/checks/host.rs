//! Checks of the calling user, of the security modules of this host, and of the clock.

use crate::doctor::finding::{Check, Finding};
use crate::doctor::observed::{Disk, HostClock, Security, User};

/// A file system may keep times that differ a little from the clock.
const TOLERANCE_SECONDS: i64 = 300;

pub(super) fn user(user: &User) -> Finding {
    const CHECK: Check = Check {
        id: "user",
        title: "User",
        why: "The operator mounts the machines' shares and gives files to QEMU's user, so it runs \
              as root. Other users reach it through kubectl.",
    };
    if user.root {
        return CHECK.ok("root");
    }
    let missing: Vec<&str> = ["libvirt", "kvm"]
        .into_iter()
        .filter(|group| !user.groups.iter().any(|own| own == group))
        .collect();
    let groups = if missing.is_empty() {
        "in the groups libvirt and kvm".to_owned()
    } else {
        format!(
            "not in the group{} {}",
            if missing.len() == 1 { "" } else { "s" },
            missing.join(" and ")
        )
    };
    let groups_to_join = missing.join(",");
    let virsh = match missing.as_slice() {
        [] => String::new(),
        _ => format!(
            "\nTo look at the machines with virsh: sudo usermod -aG {groups_to_join} {}",
            user.name
        ),
    };
    let mend = format!(
        "Start `agentvm standalone` or `agentvm operator` with sudo. kubectl works for every user \
         who may read the kubeconfig.{virsh}"
    );
    CHECK.warning(format!("{}, {groups}", user.name), mend)
}

pub(super) fn security(security: &Security, disk: &Disk) -> Finding {
    const CHECK: Check = Check {
        id: "security-modules",
        title: "AppArmor, SELinux",
        why: "libvirt uses them to confine QEMU. They deny QEMU every folder that they don't know.",
    };
    let dir = disk.state_dir.display();
    match (security.apparmor, security.selinux) {
        (true, _) => CHECK.warning(
            "AppArmor is active",
            format!(
                "If a machine doesn't start and `dmesg | grep apparmor` shows denials of {dir}: \
                 add these lines to /etc/apparmor.d/local/abstractions/libvirt-qemu, then \
                 systemctl reload apparmor\n{}",
                apparmor(&dir.to_string())
            ),
        ),
        (_, Some(true)) => CHECK.warning(
            "SELinux is enforcing",
            format!(
                "If a machine doesn't start and `ausearch -m avc` shows denials of {dir}:\n\
                 semanage fcontext -a -t virt_image_t '{dir}(/.*)?' && restorecon -R {dir}"
            ),
        ),
        (_, Some(false)) => CHECK.ok("SELinux is permissive, AppArmor inactive"),
        (false, None) => CHECK.ok("neither is active"),
    }
}

/// The shipped lines for `AppArmor`, changed for another folder.
fn apparmor(dir: &str) -> String {
    const SHIPPED: &str = include_str!("../../../../packaging/apparmor/libvirt-qemu");
    const SHIPPED_FOR: &str = "/var/lib/agentvm";
    let lines = SHIPPED.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| format!("  {}", line.replace(SHIPPED_FOR, dir))).collect::<Vec<_>>().join("\n")
}

pub(super) fn clock(clock: HostClock) -> Finding {
    const CHECK: Check = Check {
        id: "clock",
        title: "Clock",
        why: "With a wrong clock certificates are refused. Machines get the host's time at \
              every run.",
    };
    let mend =
        "Set the clock and keep it set: timedatectl set-ntp true    (or apt-get install chrony)";
    if clock.built.is_some_and(|built| clock.now + TOLERANCE_SECONDS < built) {
        return CHECK.error("the clock is behind the time at which this program was built", mend);
    }
    match clock.synchronised {
        Some(true) => CHECK.ok("synchronised"),
        Some(false) => CHECK.warning("not synchronised", mend),
        None => CHECK.info("plausible; no time service answered whether it is synchronised", ""),
    }
}
