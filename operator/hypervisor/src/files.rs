//! Small file work with errors that name the file.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use agentvm_files::{Durability, WholeFile};
use serde::{Serialize, de::DeserializeOwned};

use crate::HvError;

/// Turns an I/O error into ours: `.map_err(io("read", &path))`.
pub fn io(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> HvError {
    let what = format!("{what} {}", path.display());
    move |source| HvError::Io { what, source }
}

/// Absent is fine.
pub fn remove_tree(path: &Path) -> Result<(), HvError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Writes the whole file or nothing: a process that is killed in the middle leaves the old content.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), HvError> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(std::io::Error::other)
        .map_err(io("write", path))?;
    WholeFile::at(path, Durability::Content).write(&text).map_err(io("write", path))
}

/// A file that only root can read. A reset writes it, so no call waits for a disk.
pub fn write_secret(path: &Path, text: &str) -> Result<(), HvError> {
    let file = WholeFile::at(path, Durability::Process).exact_mode(0o600);
    file.write(text.as_bytes()).map_err(io("write", path))
}

/// `None` when there is no such file, or its content is not valid.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The names in a folder; empty without a folder.
pub fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The bytes that a file system has left for everybody.
pub fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let space = rustix::fs::statvfs(path)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// The numbers of `linux/magic.h`.
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// Whether a file or folder is kept in memory, and on no disk.
pub fn in_memory(path: &Path) -> std::io::Result<bool> {
    let magic = u64::try_from(rustix::fs::statfs(path)?.f_type).unwrap_or_default();
    Ok(matches!(magic, TMPFS | RAMFS))
}

/// Runs a command of the host; its stderr becomes the error.
pub fn run(what: &str, command: &mut std::process::Command) -> Result<(), HvError> {
    let refused = |detail: String| HvError::Refused { what: what.to_owned(), detail };
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().map_err(HvError::failed(format!("{what}: {program} can't be run")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(refused(format!("{program} ended with {}: {}", output.status, said.trim())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_for_root_only() {
        let dir = tempfile::tempdir().unwrap();
        write_secret(&dir.path().join("token"), "s").unwrap();
        assert_eq!(
            fs::metadata(dir.path().join("token")).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
