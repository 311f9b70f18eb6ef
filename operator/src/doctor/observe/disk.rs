//! Looks at the file system of goldens and machines: free space, attributes, and whether QEMU's
//! user can enter.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, XattrFlags};

use crate::doctor::observed::Disk;
use crate::standalone::libvirtd::{self, RUN_FOLDER};
use crate::standalone::run_folder;

const ATTRIBUTE: &str = "user.agentvm.probe";

pub(super) fn disk(state_dir: &Path) -> Disk {
    let state_dir = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    let examined = nearest_existing(&state_dir);
    let writable = rustix::fs::access(&examined, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    Disk {
        free_mib: free_mib(&examined),
        attributes: if writable { attributes(&examined) } else { None },
        blocked_at: blocked_at(&examined),
        slow_run_folder: run_folder::is_on_disk(Path::new(RUN_FOLDER))
            && libvirtd::anyone_answers().unwrap_or(false),
        writable,
        state_dir,
        examined,
    }
}

fn nearest_existing(path: &Path) -> PathBuf {
    path.ancestors()
        .find(|folder| folder.is_dir())
        .map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

fn free_mib(folder: &Path) -> Result<u64, String> {
    let space = rustix::fs::statvfs(folder).map_err(|error| error.to_string())?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize) >> 20)
}

/// The folder nearest to the root that QEMU's own user can't enter.
fn blocked_at(folder: &Path) -> Option<PathBuf> {
    let mut way: Vec<&Path> = folder.ancestors().collect();
    way.reverse();
    let closed = |folder: &&Path| {
        fs::metadata(folder).is_ok_and(|meta| meta.permissions().mode() & 0o001 == 0)
    };
    way.into_iter().find(closed).map(Path::to_path_buf)
}

/// Sets an attribute on a probe file, and removes the file.
fn attributes(folder: &Path) -> Option<Result<(), String>> {
    let probe = folder.join(format!(".agentvm-doctor-{}", std::process::id()));
    let file = File::create_new(&probe).ok()?;
    let set = rustix::fs::fsetxattr(&file, ATTRIBUTE, b"1", XattrFlags::CREATE)
        .map_err(|error| error.to_string());
    // If the removal fails, the file that remains is empty and its name says what it is.
    let _ = fs::remove_file(&probe);
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_the_one_above_and_nothing_is_left_behind() {
        let temporary = tempfile::tempdir().unwrap();
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let seen = disk(&temporary.path().join("a/b"));
        assert_eq!(seen.examined, temporary.path());
        assert!(seen.writable && seen.free_mib.is_ok() && seen.attributes.is_some());
        assert_eq!(seen.blocked_at, None);
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_others_cannot_enter_is_named() {
        let temporary = tempfile::tempdir().unwrap();
        let closed = temporary.path().join("closed");
        fs::create_dir_all(closed.join("inner")).unwrap();
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(disk(&closed.join("inner")).blocked_at, Some(closed));
    }
}
