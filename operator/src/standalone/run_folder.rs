//! Keeps libvirt's run folder in memory, on hosts that keep it on a disk.
//!
//! libvirtd writes a machine's state there at each pause and resume, and waits for the disk. This
//! takes a quarter of a reset in place. Hosts with an init have `/run` in memory; containers and
//! small systems without an init often do not.

use std::ffi::CStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use agentvm_hypervisor::in_memory;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Enough for a few kilobytes for each machine, and its sockets.
const OPTIONS: &CStr = c"mode=0755,size=64m";
/// The source name in the table of mounts, by which we recognise our own mount.
const SOURCE: &str = "agentvm-run";

/// Mounts a file system in memory there, unless the folder is one already. The caller knows that no
/// file of the folder is in use. A failure is only logged, because it costs time, not correctness.
pub fn keep_in_memory(folder: &Path) {
    match try_keep(folder) {
        Ok(true) => {
            tracing::info!(
                folder = %folder.display(),
                "libvirt's run folder was on a disk and is in memory now"
            );
        }
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(
                folder = %folder.display(),
                %error,
                "libvirt's run folder stays on a disk: pauses wait for it"
            );
        }
    }
}

/// Whether the folder is on a disk. For a missing folder its parent decides.
pub fn is_on_disk(folder: &Path) -> bool {
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    !in_memory(there).unwrap_or(true)
}

fn try_keep(folder: &Path) -> io::Result<bool> {
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    // The lock keeps two processes that start together from mounting over one another.
    let above = folder.parent().unwrap_or(Path::new("/"));
    let turn = open(above, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    flock(&turn, FlockOperation::LockExclusive)?;
    if in_memory(folder)? {
        return Ok(false);
    }
    mount(SOURCE, folder, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, OPTIONS)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    Ok(true)
}

/// Removes the mount of [`keep_in_memory`], unless another program uses it.
pub fn give_back(folder: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if is_ours(&table, folder) {
        // Busy: another libvirtd has its sockets there.
        let _ = unmount(folder, UnmountFlags::NOFOLLOW);
    }
}

/// The last mount on the folder is the visible one.
fn is_ours(table: &str, folder: &Path) -> bool {
    let on_it = |line: &&str| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == folder);
    let source = |line: &str| Some(line.split_once(" - ")?.1.split(' ').nth(1)? == SOURCE);
    table.lines().rfind(on_it).and_then(source).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mount_of_ours_is_taken_away() {
        let line = |source: &str| {
            format!("31 24 0:27 / /run/libvirt rw,nosuid - tmpfs {source} rw,size=65536k\n")
        };
        let folder = Path::new("/run/libvirt");
        assert!(
            is_ours(&line(SOURCE), folder)
                && !is_ours(&line("tmpfs"), folder)
                && !is_ours("", folder)
        );
        assert!(!is_ours(&(line(SOURCE) + &line("tmpfs")), folder), "another mount covers it");
        assert!(!is_ours(&line(SOURCE), Path::new("/run")));
    }

    #[test]
    fn memory_is_known_from_disks() {
        assert!(!is_on_disk(Path::new("/dev/shm/no/such/folder")));
        assert!(is_on_disk(Path::new(env!("CARGO_MANIFEST_DIR"))));
    }
}
