//! Checks of the folders for goldens and machines, and of the loop devices for shares.

use crate::doctor::finding::{Check, Finding};
use crate::doctor::observed::{Device, Devices, Disk, Host, User};

/// Enough for one golden of the default image and a few machines.
const LEAST_MIB: u64 = 4 * 1024;
/// Enough for a handful of goldens and for full pools.
const GOOD_MIB: u64 = 20 * 1024;
/// Enough for a few hundred machines.
const LEAST_FILES: u64 = 4096;

pub(super) fn space(disk: &Disk) -> Finding {
    const CHECK: Check = Check {
        id: "disk-space",
        title: "Disk",
        why: "A golden takes the memory of its machine plus its disk. Each machine takes the space \
              of the data that its run writes.",
    };
    let free = match &disk.free_mib {
        Ok(free) => *free,
        Err(why) => {
            let found = format!("{}: {why}", disk.examined.display());
            return CHECK.error(found, "Choose another --state-dir or --data-dir.");
        }
    };
    let found = format!("{} MiB free at {}", free, disk.examined.display());
    let mend = "Free some space, or choose a --state-dir (operator) or --data-dir (standalone) on \
                a larger file system.";
    match free {
        0..LEAST_MIB => CHECK.error(found, mend),
        LEAST_MIB..GOOD_MIB => CHECK.warning(found, mend),
        _ => CHECK.ok(found),
    }
}

pub(super) fn access(disk: &Disk) -> Finding {
    const CHECK: Check = Check {
        id: "state-dir",
        title: "State directory",
        why: "The operator writes goldens and machines there. QEMU runs as a user of its own and \
              must reach them.",
    };
    if let Some(closed) = &disk.blocked_at {
        return CHECK.error(
            format!("{}: other users can't enter {}", disk.state_dir.display(), closed.display()),
            format!(
                "Choose a directory that QEMU's user can reach, such as /var/lib/agentvm; or: \
                 chmod o+x {}",
                closed.display()
            ),
        );
    }
    if !disk.writable {
        return CHECK.warning(
            format!("this user can't write to {}", disk.examined.display()),
            "Start the operator as root, or choose a --state-dir that belongs to this user.",
        );
    }
    let found = disk.state_dir.display().to_string();
    CHECK.ok(if disk.examined == disk.state_dir {
        found
    } else {
        format!("{found} (will be created)")
    })
}

pub(super) fn attributes(disk: &Disk) -> Finding {
    const CHECK: Check = Check {
        id: "file-attributes",
        title: "File attributes",
        why: "QEMU's 9p keeps owner, mode and links of a guest's files in user.* attributes. \
              Without them the operator would collect a link in a run's output as text. A share is \
              an ext4 image of its own, which has them; a share directly in this folder would not.",
    };
    match &disk.attributes {
        Some(Ok(())) => CHECK.ok("the file system keeps user.* attributes"),
        Some(Err(why)) => CHECK.warning(
            format!("{}: no user.* attributes: {why}", disk.examined.display()),
            "Use ext4, xfs or btrfs for the state directory (tmpfs has them since Linux 6.6).",
        ),
        None => CHECK
            .info(format!("not tried: this user can't write to {}", disk.examined.display()), ""),
    }
}

pub(super) fn loop_devices(devices: &Devices, user: &User) -> Finding {
    const CHECK: Check = Check {
        id: "loop-devices",
        title: "Loop devices",
        why: "Each machine's share is a file system image of limited size, mounted through a loop \
              device.",
    };
    match &devices.loop_control {
        Device::Usable => CHECK.ok("/dev/loop-control opens"),
        Device::Refused(_) if !user.root => {
            CHECK.info("only root may open /dev/loop-control, which is right", "")
        }
        Device::Refused(why) => CHECK.error(
            format!("/dev/loop-control doesn't open: {why}"),
            "In a container: run it privileged, or pass in /dev/loop-control and the loop devices.",
        ),
        Device::Absent => CHECK.error(
            "there is no /dev/loop-control",
            "modprobe loop    (in a container: run this on the host, and pass in /dev/loop-control \
             and the loop devices)",
        ),
    }
}

pub(super) fn open_files(host: &Host) -> Finding {
    const CHECK: Check = Check {
        id: "open-files",
        title: "Open files",
        why: "The operator raises its limit of open files to the hard limit. It needs about ten \
              descriptors per machine, 64 for each of four collections of output at a time, and \
              some for the API server.",
    };
    match host.open_files {
        Some(limit) if limit < LEAST_FILES => CHECK.warning(
            format!("a process may open at most {limit} files"),
            format!(
                "Raise the hard limit to {LEAST_FILES} or more: LimitNOFILE= in the unit of \
                 systemd, ulimit -Hn in a shell, or the runtime of the container."
            ),
        ),
        Some(limit) => CHECK.ok(format!("a process may open {limit} files")),
        None => CHECK.ok("a process may open any number of files"),
    }
}

pub(super) fn run_folder(disk: &Disk) -> Finding {
    const CHECK: Check = Check {
        id: "run-folder",
        title: "libvirt's run folder",
        why: "libvirtd writes a machine's state to /run/libvirt at each pause and resume. On a \
              disk it waits until the state is written.",
    };
    if disk.slow_run_folder {
        return CHECK.warning(
            "/run/libvirt is on a disk: each reset and each claim waits for it",
            "Stop libvirtd, mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run/libvirt (better: \
             mount /run, which an init does), start libvirtd again.\nA libvirtd that agentvm \
             standalone starts has this folder in memory.",
        );
    }
    CHECK.ok("in memory, or libvirtd doesn't run yet")
}
