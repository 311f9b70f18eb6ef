//! libvirt's run folder in memory, where the host keeps it on a disk.
//!
//! libvirtd writes a machine's state there, and waits for the disk, each time one is paused or resumed: a quarter of a reset in place.
//! Hosts with an init have `/run` in memory; containers and small systems without one often don't.

use std::ffi::CStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use agentvm_hypervisor::in_memory;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A few kilobytes for each machine, and their sockets.
const OPTIONS: &CStr = c"mode=0755,size=64m";
/// What the table of mounts says it is, so that we know it for ours.
const SOURCE: &str = "agentvm-run";

/// Mounts a file system in memory there, unless it is one. Whoever calls it knows that nothing of what is there now is in use.
/// What this process can't do costs time, not correctness: it is said and no more.
pub fn keep_in_memory(folder: &Path) {
    match try_keep(folder) {
        Ok(true) => {
            tracing::info!(folder = %folder.display(), "libvirt's run folder was on a disk and is in memory now");
        }
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "libvirt's run folder stays on a disk: pauses wait for it");
        }
    }
}

/// Whether the folder (or, where there is none, the one it would be in) is a disk's.
pub fn is_on_disk(folder: &Path) -> bool {
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    !in_memory(there).unwrap_or(true)
}

fn try_keep(folder: &Path) -> io::Result<bool> {
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    // Two that start at once must not mount over one another.
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

/// Takes away what [`keep_in_memory`] mounted, unless somebody uses it by now.
pub fn give_back(folder: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if is_ours(&table, folder) {
        // Busy: another libvirtd has its sockets there.
        let _ = unmount(folder, UnmountFlags::NOFOLLOW);
    }
}

/// The last mount on the folder is the one that is seen.
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
        assert!(!is_ours(&(line(SOURCE) + &line("tmpfs")), folder), "somebody mounted over it");
        assert!(!is_ours(&line(SOURCE), Path::new("/run")));
    }

    #[test]
    fn memory_is_known_from_disks() {
        assert!(!is_on_disk(Path::new("/dev/shm/no/such/folder")));
        assert!(is_on_disk(Path::new(env!("CARGO_MANIFEST_DIR"))));
    }
}
