//! Directory handles: they open, make and empty folders without following a guest's links.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::budget::{Budget, Stopped};

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// A folder of ours, by path.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, FOLDER, Mode::empty())
}

/// A folder in a folder that a guest writes to.
pub fn open_folder(at: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd> {
    rustix::fs::openat2(at, name, FOLDER, Mode::empty(), BENEATH)
}

/// A file in a folder that a guest writes to. `NONBLOCK`, because opening a FIFO must not wait for
/// its other end.
pub fn open_file(at: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::openat2(at, name, flags, Mode::empty(), BENEATH)
}

/// A file or folder that a guest may have changed or removed meanwhile.
#[derive(Debug)]
pub enum Found<T> {
    Here(T),
    /// The guest's doing: the error says something about this entry alone.
    Theirs,
}

/// Divides errors into the guest's and ours.
///
/// The list has the errors that a guest can cause for one entry. Every other error (no descriptors,
/// no memory, no space, a disk that fails) is ours: it ends the work, and it is never noted as a
/// property of the guest's files.
pub fn found<T>(result: Result<T>) -> Result<Found<T>> {
    match result {
        Ok(value) => Ok(Found::Here(value)),
        Err(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::ISDIR
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NXIO
            | Errno::NODEV
            | Errno::AGAIN
            | Errno::NAMETOOLONG
            | Errno::OVERFLOW,
        ) => Ok(Found::Theirs),
        Err(ours) => Err(ours),
    }
}

/// The names in a folder, at most `limit` of them; `true` when there are more.
pub fn names(folder: impl AsFd, limit: usize) -> Result<(Vec<CString>, bool)> {
    let mut found = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if is_dot(&name) {
            continue;
        }
        if found.len() == limit {
            return Ok((found, true));
        }
        found.push(name);
    }
    Ok((found, false))
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// Removes the content of a folder, to any depth, and never through a link.
///
/// Folders below are emptied from a work list, not by recursion: a guest can nest them deeper than
/// a stack. The budget bounds the work: a guest that runs may refill the folder meanwhile.
pub fn empty(folder: impl AsFd, budget: &mut Budget) -> Emptied {
    let folder = folder.as_fd();
    loop {
        let (found, more) = names(folder, 1024)?;
        for name in &found {
            remove(folder, name, budget)?;
        }
        if !more {
            return Ok(());
        }
    }
}

/// The result of work within a budget.
pub type Emptied = std::result::Result<(), Stopped>;

fn remove(at: impl AsFd, name: &CStr, budget: &mut Budget) -> Emptied {
    budget.entry()?;
    match rustix::fs::unlinkat(&at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(other) => return Err(other.into()),
    }
    flatten(&at, name, budget)?;
    Ok(rustix::fs::unlinkat(&at, name, AtFlags::REMOVEDIR)?)
}

/// Empties `at/name` by lifting every folder found below it up into it, so that depth never grows.
fn flatten(at: impl AsFd, name: &CStr, budget: &mut Budget) -> Emptied {
    let top = rustix::fs::openat(&at, name, FOLDER, Mode::empty())?;
    let mut lifted = 0_u64;
    loop {
        let (found, _) = names(&top, 1024)?;
        if found.is_empty() {
            return Ok(());
        }
        for entry in found {
            budget.entry()?;
            match rustix::fs::unlinkat(&top, &entry, AtFlags::empty()) {
                Ok(()) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(other) => return Err(other.into()),
            }
            let inner = rustix::fs::openat(&top, &entry, FOLDER, Mode::empty())?;
            lift(&inner, &top, &mut lifted, budget)?;
            rustix::fs::unlinkat(&top, &entry, AtFlags::REMOVEDIR)?;
        }
    }
}

fn lift(from: &OwnedFd, to: &OwnedFd, lifted: &mut u64, budget: &mut Budget) -> Emptied {
    loop {
        let (found, _) = names(from, 1024)?;
        if found.is_empty() {
            return Ok(());
        }
        for entry in found {
            budget.entry()?;
            let stat = rustix::fs::statat(from, &entry, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                move_up(from, &entry, to, lifted, budget)?;
            } else {
                rustix::fs::unlinkat(from, &entry, AtFlags::empty())?;
            }
        }
    }
}

/// A guest may have taken the name that comes next, so the first free one is used.
fn move_up(
    from: &OwnedFd,
    entry: &CStr,
    to: &OwnedFd,
    lifted: &mut u64,
    budget: &mut Budget,
) -> Emptied {
    loop {
        budget.work()?;
        *lifted += 1;
        match rustix::fs::renameat_with(
            from,
            entry,
            to,
            format!(".lifted-{lifted}"),
            RenameFlags::NOREPLACE,
        ) {
            Err(Errno::EXIST) => {}
            done => return Ok(done?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::budget::Spent;
    use super::*;

    fn budget(entries: usize) -> Budget {
        Budget::of_entries(entries, Duration::from_mins(1))
    }

    #[test]
    fn emptying_takes_deep_trees_and_leaves_what_links_point_to() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("keep"), "x").unwrap();
        let mut at = open_root(dir.path()).unwrap();
        // Deeper than PATH_MAX, so that no path could name the bottom.
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            rustix::fs::symlinkat(outside.path(), &at, "link").unwrap();
            at = rustix::fs::openat(&at, "d", FOLDER, Mode::empty()).unwrap();
        }
        let root = open_root(dir.path()).unwrap();
        empty(&root, &mut budget(100_000)).unwrap();
        assert_eq!(names(&root, 1).unwrap(), (vec![], false));
        assert!(outside.path().join("keep").exists());
    }

    #[test]
    fn emptying_ends_where_the_budget_does() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        for n in 0..20 {
            std::fs::write(dir.path().join(format!("a/b/{n}")), "").unwrap();
        }
        let root = open_root(dir.path()).unwrap();
        let stopped = empty(&root, &mut budget(10)).unwrap_err();
        assert!(matches!(stopped, Stopped::Spent(Spent::Entries)), "{stopped:?}");
        empty(&root, &mut budget(100)).unwrap();
        assert_eq!(names(&root, 1).unwrap(), (vec![], false));
    }
}
