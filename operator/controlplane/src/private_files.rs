//! Private folders, and files that are written completely or not at all.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use agentvm_files::{Durability, WholeFile, make_trusted};

/// Makes a folder that only this user can enter. Changes the mode of an existing folder. No
/// other user may write to it, or to the folders above it.
pub fn private_dir(path: &Path) -> io::Result<()> {
    make_trusted(path, 0o700).map_err(io::Error::other)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// Writes a file that only this user can read. After a crash of the host the file has the old
/// content or the new one.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    WholeFile::at(path, Durability::Name).exact_mode(0o600).write(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_replaces_an_open_one_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        fs::write(dir.path().join("kubeconfig.tmp"), "left by a crash").unwrap();

        write_private(&path, b"new").unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_others_could_enter_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pki");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();

        private_dir(&path).unwrap();

        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
