//! The folders of a run, and the files that are sent for it. Paths come from outside and are
//! checked. The files of the input are copied into the working directory: there they form one small
//! project with the program, which may change them.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Component, Path};

use agentvm_guest_agent::protocol::FileChunk;
use agentvm_types::{SECRETS_BYTES, SECRETS_INODES};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat2};

use crate::mounts::mount;
use crate::users::{AGENT_GID, AGENT_UID};

/// Where it all is in a machine.
pub const WORKSPACE: &str = "/workspace";
/// The mode of a folder in the working directory.
const FOLDER: Mode = Mode::from_raw_mode(0o755);

/// Why a file wasn't written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(
        "{path:?} is not a relative path of plain names; send one like `name` or `folder/name`"
    )]
    Path { path: String },
    #[error(
        "the piece at {offset} does not follow what is there ({have} bytes); send pieces in order"
    )]
    Order { offset: u64, have: u64 },
    #[error("the piece reaches beyond the announced size of {size} bytes")]
    Size { size: u64 },
    #[error("{path:?} could not be written")]
    Io {
        path: String,
        #[source]
        why: io::Error,
    },
}

/// At boot, in a machine: the folders, and memory for the secrets.
pub fn prepare() -> io::Result<()> {
    let root = Path::new(WORKSPACE);
    for name in ["input", "output", "work", "secrets"] {
        std::fs::create_dir_all(root.join(name))?;
    }
    chown(root.join("work"), Some(AGENT_UID), Some(AGENT_GID))?;
    chown(root.join("output"), Some(AGENT_UID), Some(AGENT_GID))?;
    let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
    let options =
        format!("mode=0700,uid=1000,gid=1000,size={SECRETS_BYTES},nr_inodes={SECRETS_INODES}");
    mount("secrets", "/workspace/secrets", "tmpfs", flags, &options).map_err(io::Error::other)
}

/// Writes one piece; returns the size of the file afterwards.
pub fn write_chunk(
    secrets: &Path,
    chunk: &FileChunk,
    owner: Option<(u32, u32)>,
) -> Result<u64, FileError> {
    let path = chunk.path.as_str();
    let names = plain_names(path).ok_or_else(|| FileError::Path { path: path.to_owned() })?;
    let failed = |why: io::Error| FileError::Io { path: path.to_owned(), why };
    let end = chunk.offset.saturating_add(chunk.data.len() as u64);
    if end > chunk.size {
        return Err(FileError::Size { size: chunk.size });
    }
    let root = File::open(secrets).map_err(failed)?.into();
    let below = Below { root, folders: Mode::from_raw_mode(0o700), owner };
    let mut file = below.open(&names, chunk.offset == 0).map_err(failed)?;
    let have = file.metadata().map_err(failed)?.len();
    if have != chunk.offset {
        return Err(FileError::Order { offset: chunk.offset, have });
    }
    file.write_all(&chunk.data).map_err(failed)?;
    // Only the owner can enter the folder, so the rights of others mean nothing. But ssh refuses a
    // key with such rights.
    let mode = Mode::from_raw_mode(chunk.mode & 0o700);
    rustix::fs::fchmod(&file, mode).map_err(|why| failed(why.into()))?;
    Ok(end)
}

/// Copies all files below `project` into the working directory, with their modes and for this
/// owner. A file that is there already is replaced.
pub fn lay_out(project: &Path, work: &Path, owner: Option<(u32, u32)>) -> Result<(), FileError> {
    let mut names = Vec::new();
    lay_out_folder(project, work, &mut names, owner)
}

fn lay_out_folder(
    from: &Path,
    work: &Path,
    names: &mut Vec<String>,
    owner: Option<(u32, u32)>,
) -> Result<(), FileError> {
    let failed = |path: &[String], why| FileError::Io { path: path.join("/"), why };
    for entry in std::fs::read_dir(from).map_err(|why| failed(names, why))? {
        let entry = entry.map_err(|why| failed(names, why))?;
        // The host writes only such names.
        let Ok(name) = entry.file_name().into_string() else { continue };
        names.push(name);
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            lay_out_folder(&entry.path(), work, names, owner)?;
        } else {
            lay_out_file(&entry.path(), work, names, owner).map_err(|why| failed(names, why))?;
        }
        names.pop();
    }
    Ok(())
}

fn lay_out_file(
    from: &Path,
    work: &Path,
    names: &[String],
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    let mut source = File::open(from)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let below = Below { root: File::open(work)?.into(), folders: FOLDER, owner };
    let mut file = below.open(&names, true)?;
    io::copy(&mut source, &mut file)?;
    let mode = Mode::from_raw_mode(source.metadata()?.permissions().mode() & 0o777);
    Ok(rustix::fs::fchmod(&file, mode)?)
}

/// Removes everything in a folder, and leaves the folder.
pub fn clear(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let _ = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            std::fs::remove_dir_all(path)
        } else {
            std::fs::remove_file(path)
        };
    }
}

fn plain_names(path: &str) -> Option<Vec<&str>> {
    let names: Option<Vec<&str>> = Path::new(path)
        .components()
        .map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    names.filter(|names| !names.is_empty() && !path.ends_with('/') && !path.contains('\0'))
}

/// A folder, and how files and folders are made below it.
struct Below {
    root: OwnedFd,
    /// The mode of new folders.
    folders: Mode,
    owner: Option<(u32, u32)>,
}

impl Below {
    /// Opens or makes the file step by step from the folder's handle, so that no link in between
    /// leads out of it. A `fresh` file replaces the one that is there.
    fn open(self, names: &[&str], fresh: bool) -> io::Result<File> {
        let Some((name, folders)) = names.split_last() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let Self { root: mut dir, folders: folder_mode, owner } = self;
        for folder in folders {
            match rustix::fs::mkdirat(&dir, *folder, folder_mode) {
                Ok(()) => own(&dir, folder, owner)?,
                Err(rustix::io::Errno::EXIST) => {}
                Err(why) => return Err(why.into()),
            }
            dir = openat2(
                &dir,
                *folder,
                OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            )?;
        }
        let append = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
        let (flags, mode) = if fresh {
            match rustix::fs::unlinkat(&dir, *name, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(why) => return Err(why.into()),
            }
            (append | OFlags::CREATE | OFlags::EXCL, Mode::from_raw_mode(0o600))
        } else {
            (append, Mode::empty())
        };
        let file = openat2(&dir, *name, flags, mode, resolve)?;
        own(&dir, name, owner)?;
        Ok(file.into())
    }
}

fn own(dir: &OwnedFd, name: &str, owner: Option<(u32, u32)>) -> io::Result<()> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    Ok(rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(path: &str, offset: u64, data: &[u8]) -> FileChunk {
        FileChunk { path: path.into(), mode: 0o4640, size: 8, offset, data: data.to_vec() }
    }

    #[test]
    fn pieces_make_a_file_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(write_chunk(dir.path(), &chunk("a/b/c", 0, b"1234"), None).unwrap(), 4);
        assert_eq!(write_chunk(dir.path(), &chunk("a/b/c", 4, b"5678"), None).unwrap(), 8);
        let path = dir.path().join("a/b/c");
        assert_eq!(std::fs::read(&path).unwrap(), b"12345678");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o600,
            "no set-uid bit, and nobody else's"
        );
        clear(dir.path());
        assert!(!path.exists());
    }

    #[test]
    fn a_project_is_laid_out_over_what_is_there() {
        let (from, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(from.path().join("lib/deep")).unwrap();
        std::fs::write(from.path().join("lib/deep/a.py"), "new").unwrap();
        std::fs::write(from.path().join("tool"), "#!/bin/sh").unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(from.path().join("tool"), executable).unwrap();
        std::fs::write(work.path().join("kept"), "kept").unwrap();
        let elsewhere = work.path().join("elsewhere");
        std::fs::write(&elsewhere, "untouched").unwrap();
        std::os::unix::fs::symlink(&elsewhere, work.path().join("tool")).unwrap();

        lay_out(from.path(), work.path(), None).unwrap();
        let text = |name: &str| std::fs::read_to_string(work.path().join(name)).unwrap();
        assert_eq!(text("lib/deep/a.py"), "new");
        assert_eq!((text("kept"), text("elsewhere")), ("kept".into(), "untouched".into()));
        assert_eq!(text("tool"), "#!/bin/sh");
        let mode = std::fs::metadata(work.path().join("tool")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);

        std::fs::remove_dir_all(work.path().join("lib")).unwrap();
        std::os::unix::fs::symlink("/tmp", work.path().join("lib")).unwrap();
        let refused = lay_out(from.path(), work.path(), None).unwrap_err();
        assert!(refused.to_string().contains("lib/deep/a.py"), "{refused}");
    }

    #[test]
    fn no_path_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp", dir.path().join("link")).unwrap();
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a/./..", "a/", "link/x", "a\0b", "."]
        {
            assert!(write_chunk(dir.path(), &chunk(path, 0, b"x"), None).is_err(), "{path:?}");
        }
    }

    #[test]
    fn pieces_out_of_order_or_too_long_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            write_chunk(dir.path(), &chunk("f", 0, b"123456789"), None),
            Err(FileError::Size { .. })
        ));
        write_chunk(dir.path(), &chunk("f", 0, b"1234"), None).unwrap();
        assert!(matches!(
            write_chunk(dir.path(), &chunk("f", 5, b"1"), None),
            Err(FileError::Order { have: 4, .. })
        ));
    }
}
