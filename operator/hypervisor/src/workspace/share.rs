//! The file system of one machine's share: an image file of fixed size, mounted where QEMU exports
//! it.
//!
//! A guest that fills its share fills its own image, not the host's disk. Mounting needs root.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use agentvm_core::{names::DomainName, pool::ResetLimits};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags};

use super::budget::{Budget, Spent, Stopped};
use super::input::give;
use super::tree;
use super::virtfs::Mapping;
use crate::HvError;
use crate::files::{io, run};

/// ext4 itself needs about this much.
const MIN_BYTES: u64 = 2 << 20;
const BUSY: Duration = Duration::from_secs(2);
/// A share that takes longer is not worth a reset.
const EMPTYING: Duration = Duration::from_secs(20);

/// Makes the image and mounts it at `at`, with `input` and `output` in it. Mounted already is fine.
pub fn mount(image: &Path, at: &Path, bytes: u64, mapping: Mapping) -> Result<(), HvError> {
    if !is_mounted(at) {
        let mut create = fs::OpenOptions::new();
        let file = create
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(image)
            .map_err(io("make", image))?;
        file.set_len(bytes.max(MIN_BYTES)).map_err(io("size", image))?;
        let mut make = Command::new("mke2fs");
        // No journal and no lazy background work: the image lives as long as one machine.
        make.args(["-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal,^resize_inode"]);
        make.args(["-E", "nodiscard,lazy_itable_init=1"]).arg(image);
        run("make the file system of a share", &mut make)?;
        fs::create_dir_all(at).map_err(io("make", at))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", "loop,nosuid,nodev,noexec,noatime"]).arg(image).arg(at);
        run("mount a share (this needs root and loop devices)", &mut mount)?;
    }
    lay_out(at, mapping).map_err(|e| io("lay out the share", at)(e.into()))
}

/// Empties a mounted share, down to `input` and `output`. QEMU holds it, so it stays mounted.
pub fn renew(
    of: &DomainName,
    at: &Path,
    mapping: Mapping,
    limits: ResetLimits,
) -> Result<(), HvError> {
    let refused = |detail: String| HvError::Refused {
        what: format!("empty the share {}", at.display()),
        detail,
    };
    if !is_mounted(at) {
        return Err(refused("it is not mounted".to_owned()));
    }
    match emptied(at, limits) {
        Ok(()) => lay_out(at, mapping).map_err(|e| io("lay out the share", at)(e.into())),
        Err(Stopped::Spent(Spent::Entries)) => {
            Err(HvError::NotResettable { name: of.clone(), why: limits.too_many_entries() })
        }
        Err(Stopped::Spent(spent)) => {
            let why = format!("its share could not be emptied: {spent}");
            Err(HvError::NotResettable { name: of.clone(), why })
        }
        Err(Stopped::Failed(why)) => Err(io("empty the share", at)(why)),
    }
}

fn emptied(at: &Path, limits: ResetLimits) -> tree::Emptied {
    let root = tree::open_root(at)?;
    tree::empty(&root, &mut Budget::of_entries(limits.share_entries, EMPTYING))?;
    Ok(forget_attributes(&root)?)
}

/// Removes the guest's attributes of the share's root, which stay when its content is removed.
fn forget_attributes(root: &OwnedFd) -> rustix::io::Result<()> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::flistxattr(root, &mut names)?;
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        // The others belong to the host, and may not even be removable: a label of SELinux, for
        // example.
        if name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_") {
            rustix::fs::fremovexattr(root, name)?;
        }
    }
    Ok(())
}

fn lay_out(at: &Path, mapping: Mapping) -> rustix::io::Result<()> {
    let root = tree::open_root(at)?;
    for name in ["input", "output"] {
        match rustix::fs::mkdirat(&root, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(other) => return Err(other),
        }
        give(tree::open_folder(&root, name)?, mapping, 0o755, true)?;
    }
    // Files that QEMU makes belong to its own user, whatever the share had before; the guest's view
    // of the mode is an attribute.
    rustix::fs::fchmod(&root, Mode::RWXU)?;
    give(&root, mapping, 0o755, true)
}

/// Takes the mount away. Absent is fine. Only a mount that stays busy is detached lazily.
pub fn unmount(at: &Path) -> Result<(), HvError> {
    let deadline = Instant::now() + BUSY;
    loop {
        match rustix::mount::unmount(at, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(Errno::BUSY) => {
                tracing::warn!(share = %at.display(),
                    "a share stays busy; it is detached and goes when its last user does");
                let detached =
                    rustix::mount::unmount(at, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH);
                return detached.map_err(|e| io("detach", at)(e.into()));
            }
            Err(other) => return Err(io("unmount", at)(other.into())),
        }
    }
}

fn is_mounted(at: &Path) -> bool {
    mounts().iter().any(|(path, _)| path == at)
}

/// The paths of this process's mounts, and whether each is shared with other namespaces.
fn mounts() -> Vec<(std::path::PathBuf, bool)> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let path =
            fields.get(4)?.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
        Some((path.into(), fields.iter().any(|f| f.starts_with("shared:"))))
    };
    table.lines().filter_map(parse).collect()
}

/// Makes unmounting in this namespace reach the namespaces of running QEMUs.
/// Each QEMU has a copy of the mounts that existed when it started. If the host's mounts are
/// private (no systemd), a copy of a neighbour's share would keep that share's disk space for as
/// long as this machine lives.
pub fn propagate(folder: &Path) -> Result<(), HvError> {
    let mounts = mounts();
    let holding = mounts
        .iter()
        .filter(|(path, _)| folder.starts_with(path))
        .max_by_key(|(path, _)| path.as_os_str().len());
    if holding.is_some_and(|(_, shared)| *shared) {
        return Ok(());
    }
    if !mounts.iter().any(|(path, _)| path == folder) {
        rustix::mount::mount_bind(folder, folder).map_err(|e| io("bind", folder)(e.into()))?;
    }
    rustix::mount::mount_change(folder, MountPropagationFlags::SHARED)
        .map_err(|e| io("share", folder)(e.into()))
}

/// Undoes [`propagate`] when nothing is mounted below any more.
pub fn stop_propagating(folder: &Path) {
    let below = |path: &Path| path != folder && path.starts_with(folder);
    let mounts = mounts();
    if mounts.iter().any(|(path, _)| path == folder) && !mounts.iter().any(|(path, _)| below(path))
    {
        // Another mount may have come in between; then it is busy and stays.
        let _ = rustix::mount::unmount(folder, UnmountFlags::NOFOLLOW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Mapping = Mapping::Virtfs { uid: 64055, gid: 64055 };

    /// Mounting needs root and loop devices, like production: without them these tests fail.
    struct Mounted {
        dir: tempfile::TempDir,
    }

    impl Mounted {
        fn new(bytes: u64) -> Self {
            let dir = tempfile::tempdir_in("/var/tmp").unwrap();
            mount(&dir.path().join("img"), &dir.path().join("share"), bytes, PLAIN).unwrap();
            Self { dir }
        }

        fn share(&self) -> std::path::PathBuf {
            self.dir.path().join("share")
        }
    }

    impl Drop for Mounted {
        fn drop(&mut self) {
            unmount(&self.share()).unwrap();
        }
    }

    #[test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    fn a_share_has_its_folders_and_an_end() {
        use std::os::unix::fs::MetadataExt;
        let mounted = Mounted::new(16 << 20);
        assert_eq!(fs::metadata(mounted.share().join("output")).unwrap().uid(), 64055);
        let error = fs::write(mounted.share().join("output/big"), vec![1; 20 << 20]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        let flags = rustix::fs::statvfs(mounted.share()).unwrap().f_flag;
        let wanted = rustix::fs::StatVfsMountFlags::NOSUID
            | rustix::fs::StatVfsMountFlags::NODEV
            | rustix::fs::StatVfsMountFlags::NOEXEC;
        assert!(flags.contains(wanted), "{flags:?}");
    }

    #[test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    fn mounting_and_unmounting_twice_is_fine() {
        let mounted = Mounted::new(4 << 20);
        fs::write(mounted.share().join("input/kept"), "1").unwrap();
        mount(&mounted.dir.path().join("img"), &mounted.share(), 4 << 20, PLAIN).unwrap();
        assert!(mounted.share().join("input/kept").exists(), "a second mount makes nothing new");
        unmount(&mounted.share()).unwrap();
        unmount(&mounted.share()).unwrap();
        assert!(!is_mounted(&mounted.share()));
        unmount(&mounted.dir.path().join("absent")).unwrap();
    }

    #[test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    fn a_renewed_share_is_as_new_whatever_was_done_to_it() {
        use std::os::unix::fs::PermissionsExt;
        let mounted = Mounted::new(4 << 20);
        let (share, fresh) = (mounted.share(), Mounted::new(4 << 20));
        let name = DomainName::from_recorded("m");
        renew(&name, &fresh.share(), PLAIN, ResetLimits::default()).unwrap();
        std::os::unix::fs::symlink("/etc", share.join("link")).unwrap();
        fs::create_dir_all(share.join("output/a/b")).unwrap();
        fs::remove_dir(share.join("input")).unwrap();
        fs::write(share.join("input"), "a file now").unwrap();
        rustix::fs::setxattr(&share, "user.mine", b"1", rustix::fs::XattrFlags::empty()).unwrap();
        rustix::fs::setxattr(&share, "trusted.host", b"1", rustix::fs::XattrFlags::empty())
            .unwrap();
        fs::set_permissions(&share, fs::Permissions::from_mode(0o1777)).unwrap();
        renew(&name, &share, PLAIN, ResetLimits::default()).unwrap();
        rustix::fs::removexattr(&share, "trusted.host").unwrap();
        assert_eq!(state(&share), state(&fresh.share()));
        assert!(state(&share).len() == 3 && Path::new("/etc").exists());
        assert!(
            renew(&name, mounted.dir.path(), PLAIN, ResetLimits::default())
                .unwrap_err()
                .to_string()
                .contains("not mounted")
        );
    }

    /// Names, modes and attributes.
    fn state(share: &Path) -> Vec<(String, u32, Vec<u8>)> {
        use std::os::unix::fs::MetadataExt;
        let below = crate::files::names_in(share).into_iter().map(|name| share.join(name));
        let all = std::iter::once(share.to_owned()).chain(below);
        all.map(|path| {
            let mut names = vec![0; 4096];
            let length = rustix::fs::listxattr(&path, &mut names).unwrap();
            let name = path.strip_prefix(share).unwrap().display().to_string();
            (name, fs::metadata(&path).unwrap().mode(), names[..length].to_vec())
        })
        .collect()
    }

    #[test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    fn a_busy_share_is_detached_in_the_end() {
        let mounted = Mounted::new(4 << 20);
        let held = fs::File::open(mounted.share()).unwrap();
        unmount(&mounted.share()).unwrap();
        assert!(!is_mounted(&mounted.share()));
        drop(held);
    }

    #[test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    fn propagation_is_made_once_and_undone_when_nothing_needs_it() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let folder = dir.path().join("machines");
        fs::create_dir(&folder).unwrap();
        propagate(&folder).unwrap();
        propagate(&folder).unwrap();
        let holding = mounts().into_iter().rfind(|(path, _)| folder.starts_with(path)).unwrap();
        assert!(holding.1, "{holding:?}");
        let count = || mounts().iter().filter(|(path, _)| *path == folder).count();
        assert!(count() <= 1);
        stop_propagating(&folder);
        assert_eq!(count(), 0);
    }
}
