//! Puts files into `input`: they are staged beside it, then moved in. So a failure leaves the old
//! content.
//!
//! The folder `input` itself stays: the guest has mounted it, and only its content may change.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::budget::{Budget, MAX_DEPTH, Stopped};
use super::tree;
use super::virtfs::{self, Mapping};
use crate::{HvError, InputFile};

const STAGING: &str = ".staging";
/// The old input. A reset leaves none. An interrupted try of this attempt leaves its files. A guest
/// that refills the folder while it is emptied comes to an end here.
const OLD_ENTRIES: usize = 20_000;
const EMPTYING: Duration = Duration::from_secs(20);

/// Replaces the content of `<share>/input`.
pub fn put(share: &Path, mapping: Mapping, files: &[InputFile]) -> Result<(), HvError> {
    for file in files {
        check_path(&file.path)?;
    }
    let root = tree::open_root(share).map_err(|e| failed("open the share", share, e))?;
    let mut budget = Budget::of_entries(OLD_ENTRIES, EMPTYING);
    stage(&root, mapping, files, &mut budget)
        .map_err(|(path, e)| failed("write the input file", Path::new(&path), e))?;
    swap(&root, files.len(), &mut budget).map_err(|e| failed("replace the input of", share, e))
}

fn failed(what: &str, path: &Path, why: impl Into<Stopped>) -> HvError {
    why.into().into_error(format!("{what} {}", path.display()))
}

/// The caller has validated paths; this is the last door before a file system, so it looks again.
fn check_path(path: &str) -> Result<(), HvError> {
    let fine = !path.is_empty()
        && !path.contains('\0')
        && path.split('/').count() <= MAX_DEPTH
        && path.split('/').all(|name| !matches!(name, "" | "." | ".."));
    if fine {
        return Ok(());
    }
    Err(HvError::Refused {
        what: format!("put the input file {path:?}"),
        detail: "a path must be relative, without '..' and empty names".to_owned(),
    })
}

type Failed = (String, Stopped);

fn stage(
    root: &OwnedFd,
    mapping: Mapping,
    files: &[InputFile],
    budget: &mut Budget,
) -> Result<(), Failed> {
    let staging = fresh(root, budget).map_err(|e| (STAGING.to_owned(), e))?;
    for file in files {
        write(&staging, mapping, file).map_err(|e| (file.path.clone(), e.into()))?;
    }
    Ok(())
}

/// The empty folder for the new files.
fn fresh(root: &OwnedFd, budget: &mut Budget) -> Result<OwnedFd, Stopped> {
    match rustix::fs::mkdirat(root, STAGING, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(other) => return Err(other.into()),
    }
    let staging = tree::open_folder(root, STAGING)?;
    tree::empty(&staging, budget)?;
    Ok(staging)
}

fn write(staging: &OwnedFd, mapping: Mapping, file: &InputFile) -> rustix::io::Result<()> {
    let (folders, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let mut at = rustix::io::fcntl_dupfd_cloexec(staging, 0)?;
    for folder in folders.split('/').filter(|f| !f.is_empty()) {
        at = make_folder(&at, mapping, folder)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&at, name, flags, Mode::RUSR | Mode::WUSR)?;
    let mut rest = file.content.as_slice();
    while !rest.is_empty() {
        let written = rustix::io::write(&fd, rest)?;
        rest = &rest[written..];
    }
    give(&fd, mapping, file.mode, false)
}

fn make_folder(at: &OwnedFd, mapping: Mapping, name: &str) -> rustix::io::Result<OwnedFd> {
    let made = match rustix::fs::mkdirat(at, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(other) => return Err(other),
    };
    let folder = tree::open_folder(at, name)?;
    if made {
        give(&folder, mapping, 0o755, true)?;
    }
    Ok(folder)
}

/// Through 9p the host's mode is QEMU's business and the guest's stands in the attributes.
pub(super) fn give(
    fd: impl AsFd,
    mapping: Mapping,
    mode: u32,
    folder: bool,
) -> rustix::io::Result<()> {
    match mapping {
        #[cfg(any(test, feature = "fault-injection"))]
        Mapping::Plain => rustix::fs::fchmod(fd, Mode::from_raw_mode(mode & 0o777)),
        Mapping::Virtfs { uid, gid } => {
            virtfs::mark(&fd, mode & 0o777, folder)?;
            rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        }
    }
}

fn swap(root: &OwnedFd, files: usize, budget: &mut Budget) -> tree::Emptied {
    let input = tree::open_folder(root, "input")?;
    let staging = tree::open_folder(root, STAGING)?;
    tree::empty(&input, budget)?;
    // A guest that adds files here gets no more moves than there are files.
    let mut moves = Budget::of_entries(files.max(1), EMPTYING);
    loop {
        let (names, more) = tree::names(&staging, 1024)?;
        for name in &names {
            moves.entry()?;
            rustix::fs::renameat(&staging, name, &input, name)?;
        }
        if !more {
            break;
        }
    }
    Ok(rustix::fs::unlinkat(root, STAGING, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn share() -> tempfile::TempDir {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        std::fs::create_dir(dir.path().join("input")).unwrap();
        dir
    }

    fn file(path: &str, mode: u32, content: &str) -> InputFile {
        InputFile { path: path.to_owned(), mode, content: content.as_bytes().to_vec() }
    }

    #[test]
    fn files_replace_what_was_there_and_keep_the_folder() {
        let share = share();
        let folder = std::fs::metadata(share.path().join("input")).unwrap();
        put(share.path(), Mapping::Plain, &[file("old", 0o644, "1")]).unwrap();
        put(
            share.path(),
            Mapping::Plain,
            &[file("a/b/run.sh", 0o755, "2"), file("a/c", 0o600, "3")],
        )
        .unwrap();
        let input = share.path().join("input");
        assert!(!input.join("old").exists());
        assert_eq!(std::fs::read_to_string(input.join("a/b/run.sh")).unwrap(), "2");
        assert_eq!(
            std::fs::metadata(input.join("a/b/run.sh")).unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert!(!share.path().join(STAGING).exists());
        assert_eq!(std::fs::metadata(input).unwrap().ino(), folder.ino());
    }

    #[test]
    fn a_path_that_leads_out_is_refused_and_changes_nothing() {
        let share = share();
        put(share.path(), Mapping::Plain, &[file("kept", 0o644, "1")]).unwrap();
        for bad in ["", "/etc/x", "../x", "a/../x", "a//b", "./a", "a/", "a\0b"] {
            assert!(put(share.path(), Mapping::Plain, &[file(bad, 0o644, "")]).is_err(), "{bad:?}");
        }
        assert!(share.path().join("input/kept").exists());
    }

    #[test]
    fn a_link_that_a_guest_put_in_the_way_is_not_followed() {
        let share = share();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), share.path().join(STAGING)).unwrap();
        assert!(put(share.path(), Mapping::Plain, &[file("x", 0o644, "1")]).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn qemu_finds_the_guest_s_owner_and_mode_in_attributes() {
        let share = share();
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        put(share.path(), Mapping::Virtfs { uid, gid }, &[file("d/run", 0o755, "x")]).unwrap();
        let attribute = |path: &str, name: &str| {
            let mut value = [0_u8; 4];
            rustix::fs::getxattr(share.path().join("input").join(path), name, &mut value).unwrap();
            u32::from_le_bytes(value)
        };
        assert_eq!(attribute("d/run", "user.virtfs.mode"), 0o100_755);
        assert_eq!(attribute("d/run", "user.virtfs.uid"), 1000);
        assert_eq!(attribute("d", "user.virtfs.mode"), 0o040_755);
    }
}
