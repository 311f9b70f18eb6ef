//! Checks of QEMU and libvirt: they are installed, new enough, and answer.

use super::version::Version;
use crate::doctor::finding::{Check, Finding};
use crate::doctor::observed::{Confinement, Libvirt, LogDaemon, User, Virt};
use crate::standalone::libvirtd::SYSTEM_URI;

/// The oldest QEMU that suffices. It has `rom=` and migration to a file: agentvm captures and
/// clones goldens with these.
pub(super) const OLDEST_QEMU: Version = Version(8, 2);
/// The oldest libvirt that suffices.
pub(super) const OLDEST_LIBVIRT: Version = Version(9, 0);

const INSTALL: &str = "Debian 13, Ubuntu 24.04: apt-get install qemu-system-x86 qemu-utils \
                       libvirt-daemon-system libvirt-clients\nDebian 12: the same packages, all of \
                       them from bookworm-backports (.ci/packages of the repository does it).";

pub(super) fn qemu(virt: &Virt) -> Finding {
    const CHECK: Check = Check { id: "qemu", title: "QEMU", why: "QEMU runs the machines." };
    let qemu = match &virt.qemu {
        Ok(qemu) => qemu,
        Err(why) => return CHECK.error(why.clone(), INSTALL),
    };
    match Version::parse(&qemu.version) {
        Some(version) if version >= OLDEST_QEMU => CHECK.ok(qemu.version.clone()),
        Some(_) => CHECK.error(
            format!("{}, older than {OLDEST_QEMU}", qemu.version),
            format!(
                "Goldens are captured with migration to a file, which QEMU supports since \
                 {OLDEST_QEMU}.\n{INSTALL}"
            ),
        ),
        None => CHECK.warning(
            format!("of unknown version ({})", qemu.version),
            format!("Make sure that it is {OLDEST_QEMU} or newer."),
        ),
    }
}

pub(super) fn shares(virt: &Virt) -> Finding {
    const CHECK: Check = Check {
        id: "qemu-9p",
        title: "9p in QEMU",
        why: "A run's input and output go through a virtio-9p share of its machine.",
    };
    match &virt.qemu {
        Ok(qemu) if qemu.has_9p => CHECK.ok("virtio-9p-pci"),
        Ok(_) => CHECK.error(
            "this QEMU has no virtio-9p-pci",
            "Install a QEMU that was built with virtfs; Debian's and Ubuntu's are.",
        ),
        Err(_) => CHECK.error("there is no QEMU to examine", "See the finding on QEMU."),
    }
}

pub(super) fn libvirt(virt: &Virt, user: &User) -> Finding {
    const CHECK: Check = Check {
        id: "libvirt",
        title: "libvirt",
        why: "libvirt starts, confines and ends the machines' QEMU processes.",
    };
    let libvirt = &virt.libvirt;
    let version = match &libvirt.daemon {
        Ok(version) => version,
        Err(why) => return silent(CHECK, libvirt, user, why),
    };
    let found = format!("{version} answers at {}", libvirt.uri);
    match Version::parse(version) {
        Some(version) if version < OLDEST_LIBVIRT => {
            CHECK.error(format!("{found}, older than {OLDEST_LIBVIRT}"), INSTALL)
        }
        Some(_) => CHECK.ok(found),
        None => CHECK.warning(found, format!("Make sure that it is {OLDEST_LIBVIRT} or newer.")),
    }
}

/// libvirt does not answer. The remedy depends on the calling user and on the programs that are
/// installed.
fn silent(check: Check, libvirt: &Libvirt, user: &User, why: &str) -> Finding {
    if libvirt.client.is_none() {
        return check
            .warning(format!("there is no virsh, so {} can't be asked", libvirt.uri), INSTALL);
    }
    let found = format!("nothing answers at {}: {why}", libvirt.uri);
    if libvirt.uri != SYSTEM_URI {
        return check.error(
            found,
            "Correct libvirt.uri (`agentvm config show` prints its origin), or start that libvirt.",
        );
    }
    let missing: Vec<&str> = [("libvirtd", &libvirt.libvirtd), ("virtlogd", &libvirt.virtlogd)]
        .into_iter()
        .filter_map(|(program, path)| path.is_none().then_some(program))
        .collect();
    if !missing.is_empty() {
        return check.error(format!("{found}; there is no {}", missing.join(" and no ")), INSTALL);
    }
    if user.root {
        return check.info(
            format!("nothing answers at {}; `agentvm standalone` starts one", libvirt.uri),
            "For `agentvm operator`, or to have libvirtd always: systemctl enable --now libvirtd\n\
             (without systemd: virtlogd -d && libvirtd -d)",
        );
    }
    // A warning, because libvirt may answer root, who runs the operator, and root can start a
    // libvirtd.
    check.warning(
        found,
        format!(
            "sudo systemctl enable --now libvirtd    (without systemd: sudo virtlogd -d && sudo \
             libvirtd -d)\nIf it runs, {} may not use it: sudo usermod -aG libvirt {}    (then log \
             in again)",
            user.name, user.name
        ),
    )
}

pub(super) fn log_daemon(virt: &Virt, confinement: &Confinement) -> Finding {
    const CHECK: Check = Check {
        id: "log-daemon",
        title: "virtlogd",
        why: "virtlogd writes the log of each machine's QEMU for libvirt. libvirt starts no \
              machine without it.",
    };
    let handler = confinement.conf.as_ref().and_then(|conf| conf.stdio_handler.as_deref());
    match &virt.log_daemon {
        LogDaemon::Answers => CHECK.ok("answers"),
        _ if handler == Some("file") => {
            CHECK.ok("not needed: stdio_handler is \"file\" in /etc/libvirt/qemu.conf")
        }
        LogDaemon::Unasked => CHECK.ok("asked only if libvirt answers at qemu:///system"),
        LogDaemon::Refused => {
            CHECK.info("only root may find out whether it answers", "sudo agentvm doctor")
        }
        LogDaemon::Silent(why) if virt.libvirt.virtlogd.is_none() => {
            CHECK.error(format!("there is no virtlogd, and nothing answers at {why}"), INSTALL)
        }
        LogDaemon::Silent(why) => CHECK.error(
            format!("libvirt answers but virtlogd doesn't, so no machine starts: {why}"),
            "systemctl enable --now virtlogd.socket    (without systemd: virtlogd -d)\n\
             If that fails: systemctl status virtlogd.socket virtlogd.service",
        ),
    }
}
