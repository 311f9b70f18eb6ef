//! Folders that only we can change. Root works in no other folder: who can write to a folder, or to
//! a folder above it, can put files of their own into our way.

use std::collections::VecDeque;
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

/// The kernel follows no more links in one path either.
const MAX_LINKS: u32 = 40;
const STICKY: u32 = 0o1000;
const WRITABLE_BY_OTHERS: u32 = 0o022;
const ROOT: u32 = 0;

/// A folder is not ours alone. The message says how to mend it.
#[derive(Debug)]
pub enum Untrusted {
    Owner { folder: PathBuf, entry: PathBuf, owner: u32, us: u32 },
    Writable { folder: PathBuf, entry: PathBuf, mode: u32 },
    NotAFolder(PathBuf),
    Links(PathBuf),
    Io { folder: PathBuf, why: io::Error },
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner { folder, entry, owner, us } => {
                let (folder, entry) = (folder.display(), entry.display());
                write!(
                    f,
                    "{entry} belongs to the user with the number {owner}, who could change our \
                     files in {folder}; give it to this user (chown {us} {entry}), or name another \
                     folder"
                )
            }
            Self::Writable { folder, entry, mode } => {
                let (folder, entry) = (folder.display(), entry.display());
                write!(
                    f,
                    "other users may write to {entry} (mode {mode:04o}), so they could change our \
                     files in {folder}; close it (chmod go-w {entry}), or name another folder"
                )
            }
            Self::NotAFolder(path) => {
                write!(f, "{} is not a folder; name another one", path.display())
            }
            Self::Links(path) => write!(
                f,
                "{} leads through more than {MAX_LINKS} links; name another folder",
                path.display()
            ),
            Self::Io { folder, .. } => write!(f, "can't use the folder {}", folder.display()),
        }
    }
}

impl Error for Untrusted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        if let Self::Io { why, .. } = self { Some(why) } else { None }
    }
}

/// Makes the folder and the missing ones above it with this mode, and checks that only this user
/// (or root) can change it: each folder and each link on the way belongs to us, and no other user
/// may write there. In a sticky folder like `/tmp`, our own entries are safe.
pub fn make_trusted(folder: &Path, mode: u32) -> Result<(), Untrusted> {
    let io = |why| Untrusted::Io { folder: folder.to_owned(), why };
    // First, so that we do not make folders below one that others can change.
    walk(folder)?;
    DirBuilder::new().recursive(true).mode(mode).create(folder).map_err(io)?;
    match walk(folder)? {
        Found::All => Ok(()),
        // Another process has removed it.
        Found::Part => Err(io(io::ErrorKind::NotFound.into())),
    }
}

/// Checks an existing folder like [`make_trusted`].
pub fn check_trusted(folder: &Path) -> Result<(), Untrusted> {
    match walk(folder)? {
        Found::All => Ok(()),
        Found::Part => {
            Err(Untrusted::Io { folder: folder.to_owned(), why: io::ErrorKind::NotFound.into() })
        }
    }
}

enum Found {
    All,
    /// The end of the path is missing.
    Part,
}

/// Follows the path as the kernel does, and judges each entry.
fn walk(folder: &Path) -> Result<Found, Untrusted> {
    let io = |why| Untrusted::Io { folder: folder.to_owned(), why };
    let absolute = std::path::absolute(folder).map_err(io)?;
    // The folder of a process belongs to its user.
    let us = fs::metadata("/proc/self").map_err(io)?.uid();
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    let mut here = fs::symlink_metadata(&at).map_err(io)?;
    judge(folder, &at, &here, us, false)?;
    let mut rest = names(&absolute);
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            at.pop();
            here = fs::symlink_metadata(&at).map_err(io)?;
            continue;
        }
        let entry = at.join(&name);
        let meta = match fs::symlink_metadata(&entry) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Found::Part),
            found => found.map_err(io)?,
        };
        judge(folder, &entry, &meta, us, false)?;
        if meta.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(Untrusted::Links(folder.to_owned()));
            }
            let target = fs::read_link(&entry).map_err(io)?;
            if target.is_absolute() {
                at = PathBuf::from("/");
                here = fs::symlink_metadata(&at).map_err(io)?;
            }
            let mut longer = names(&target);
            longer.append(&mut rest);
            rest = longer;
        } else if meta.is_dir() {
            (at, here) = (entry, meta);
        } else {
            return Err(Untrusted::NotAFolder(entry));
        }
    }
    judge(folder, &at, &here, us, true)?;
    Ok(Found::All)
}

/// The entries of a path in their order; `..` stays, because a link may be before it.
fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

/// Whether another user can change this entry. Only its owner can replace an entry of a sticky
/// folder, so the entries of such a folder are safe one by one. The folder at the end of the path
/// must not be shared at all.
fn judge(
    folder: &Path,
    entry: &Path,
    meta: &Metadata,
    us: u32,
    last: bool,
) -> Result<(), Untrusted> {
    let (folder, entry) = (folder.to_owned(), entry.to_owned());
    if meta.uid() != us && meta.uid() != ROOT {
        return Err(Untrusted::Owner { folder, entry, owner: meta.uid(), us });
    }
    // The mode of a link says nothing.
    let shared = meta.is_dir() && meta.mode() & WRITABLE_BY_OTHERS != 0;
    if shared && (last || meta.mode() & STICKY == 0) {
        return Err(Untrusted::Writable { folder, entry, mode: meta.mode() & 0o7777 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir_in("/var/tmp").unwrap()
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refused(path: &Path) -> String {
        let why = make_trusted(path, 0o700).unwrap_err();
        why.to_string()
    }

    #[test]
    fn a_folder_of_our_own_is_made_and_found_again_in_a_sticky_one_too() {
        let dir = folder();
        let path = dir.path().join("a/b");
        make_trusted(&path, 0o711).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o711);
        make_trusted(&path, 0o711).unwrap();
        check_trusted(&path).unwrap();
        assert!(check_trusted(&dir.path().join("missing")).is_err());
        symlink(&path, dir.path().join("link")).unwrap();
        symlink("../a/./b", dir.path().join("a/relative")).unwrap();
        check_trusted(&dir.path().join("link")).unwrap();
        check_trusted(&dir.path().join("a/relative")).unwrap();
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused_and_so_is_all_below_it() {
        let dir = folder();
        let shared = dir.path().join("shared");
        make_trusted(&shared, 0o700).unwrap();
        for mode in [0o777, 0o770, 0o702, 0o1777] {
            chmod(&shared, mode);
            let said = refused(&shared);
            assert!(said.contains(&format!("chmod go-w {}", shared.display())), "{said}");
        }
        chmod(&shared, 0o777);
        let said = refused(&shared.join("below"));
        assert!(said.contains("chmod go-w"), "{said}");
        assert!(!shared.join("below").exists(), "nothing is made there");
        chmod(&shared, 0o1777);
        make_trusted(&shared.join("below"), 0o700).unwrap();
    }

    #[test]
    fn a_link_to_nowhere_or_in_a_circle_and_a_file_are_refused() {
        let dir = folder();
        symlink(dir.path().join("b"), dir.path().join("a")).unwrap();
        symlink(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert!(refused(&dir.path().join("a")).contains("links"));
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(refused(&dir.path().join("file")).contains("not a folder"));
        assert!(refused(&dir.path().join("file/below")).contains("not a folder"));
    }
}
