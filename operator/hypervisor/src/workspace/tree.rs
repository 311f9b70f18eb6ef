//! Directory handles: they open, make and empty folders without following a guest's links.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// The largest depth that is entered.
pub const MAX_DEPTH: usize = 64;

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

/// The remaining number of removals or moves.
#[derive(Debug)]
pub struct Budget(usize);

impl Budget {
    pub fn new(entries: usize) -> Self {
        Self(entries)
    }

    /// `OVERFLOW` when it is spent.
    fn spend(&mut self) -> Result<()> {
        self.0 = self.0.checked_sub(1).ok_or(Errno::OVERFLOW)?;
        Ok(())
    }
}

/// Removes the content of a folder, to any depth, and never through a link.
///
/// Folders below are emptied from a work list, not by recursion: a guest can nest them deeper than
/// a stack.
pub fn empty(folder: impl AsFd) -> Result<()> {
    empty_within(folder, &mut Budget::new(usize::MAX))
}

/// Like [`empty`], but with a budget: beyond it the result is `OVERFLOW`.
pub fn empty_within(folder: impl AsFd, budget: &mut Budget) -> Result<()> {
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

fn remove(at: impl AsFd, name: &CStr, budget: &mut Budget) -> Result<()> {
    budget.spend()?;
    match rustix::fs::unlinkat(&at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(other) => return Err(other),
    }
    flatten(&at, name, budget)?;
    rustix::fs::unlinkat(&at, name, AtFlags::REMOVEDIR)
}

/// Empties `at/name` by lifting every folder found below it up into it, so that depth never grows.
fn flatten(at: impl AsFd, name: &CStr, budget: &mut Budget) -> Result<()> {
    let top = rustix::fs::openat(&at, name, FOLDER, Mode::empty())?;
    let mut lifted = 0_u64;
    loop {
        let (found, _) = names(&top, 1024)?;
        if found.is_empty() {
            return Ok(());
        }
        for entry in found {
            budget.spend()?;
            match rustix::fs::unlinkat(&top, &entry, AtFlags::empty()) {
                Ok(()) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(other) => return Err(other),
            }
            let inner = rustix::fs::openat(&top, &entry, FOLDER, Mode::empty())?;
            lift(&inner, &top, &mut lifted, budget)?;
            rustix::fs::unlinkat(&top, &entry, AtFlags::REMOVEDIR)?;
        }
    }
}

fn lift(from: &OwnedFd, to: &OwnedFd, lifted: &mut u64, budget: &mut Budget) -> Result<()> {
    loop {
        let (found, _) = names(from, 1024)?;
        if found.is_empty() {
            return Ok(());
        }
        for entry in found {
            budget.spend()?;
            let stat = rustix::fs::statat(from, &entry, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                move_up(from, &entry, to, lifted)?;
            } else {
                rustix::fs::unlinkat(from, &entry, AtFlags::empty())?;
            }
        }
    }
}

/// A guest may have taken the name that comes next, so the first free one is used.
fn move_up(from: &OwnedFd, entry: &CStr, to: &OwnedFd, lifted: &mut u64) -> Result<()> {
    loop {
        *lifted += 1;
        match rustix::fs::renameat_with(
            from,
            entry,
            to,
            format!(".lifted-{lifted}"),
            RenameFlags::NOREPLACE,
        ) {
            Err(Errno::EXIST) => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        empty(&root).unwrap();
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
        assert_eq!(empty_within(&root, &mut Budget::new(10)), Err(Errno::OVERFLOW));
        assert_eq!(empty_within(&root, &mut Budget::new(100)), Ok(()));
        assert_eq!(names(&root, 1).unwrap(), (vec![], false));
    }
}
