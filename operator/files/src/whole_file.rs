//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The crash after which the file has the old content or the new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// The crash of the writer. No call waits for a disk.
    Process,
    /// Also the crash of the host. The old content may come back after it.
    Content,
    /// Also the crash of the host, and the new content stays: the folder is written out too.
    Name,
}

/// A file to write. Readers see the old content or the new, and no part of it.
#[derive(Clone, Debug)]
#[must_use = "it is written by `write`"]
pub struct WholeFile<'a> {
    path: &'a Path,
    temporary: PathBuf,
    mode: Option<u32>,
    durability: Durability,
}

impl<'a> WholeFile<'a> {
    /// The temporary name is fixed, so that crashes leave at most one file: a file has one writer.
    pub fn at(path: &'a Path, durability: Durability) -> Self {
        let temporary = path.with_added_extension("tmp");
        Self { path, temporary, mode: None, durability }
    }

    /// The permissions, whatever the umask is. The default is 0666 less the umask.
    pub fn exact_mode(self, mode: u32) -> Self {
        Self { mode: Some(mode), ..self }
    }

    /// A temporary name in the folder of the file, for a file that several processes write.
    pub fn temporary_name(self, name: impl Into<OsString>) -> Self {
        Self { temporary: self.path.with_file_name(name.into()), ..self }
    }

    /// Writes the temporary file and gives it its name. A file that was open keeps the old content.
    pub fn write(&self, content: &[u8]) -> io::Result<()> {
        // A crash may have left one with another mode, which another process holds open.
        match fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = self.write_temporary(content);
        if written.is_err() {
            // A full disk must not keep half a file. The first error says more than this one.
            let _ = fs::remove_file(&self.temporary);
        }
        written?;
        match self.path.parent() {
            Some(folder) if self.durability == Durability::Name => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    }

    fn write_temporary(&self, content: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(self.mode.unwrap_or(0o666));
        let mut file = options.open(&self.temporary)?;
        if let Some(mode) = self.mode {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        file.write_all(content)?;
        if self.durability >= Durability::Content {
            file.sync_all()?;
        }
        fs::rename(&self.temporary, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.json");
        for durability in [Durability::Process, Durability::Content, Durability::Name] {
            fs::write(dir.path().join("file.json.tmp"), "left by a crash").unwrap();
            let file = WholeFile::at(&path, durability);
            file.clone().exact_mode(0o600).write(b"one").unwrap();
            assert_eq!((fs::read(&path).unwrap().as_slice(), mode_of(&path)), (&b"one"[..], 0o600));
            file.exact_mode(0o557).write(b"two").unwrap();
            assert_eq!((fs::read(&path).unwrap().as_slice(), mode_of(&path)), (&b"two"[..], 0o557));
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        fs::create_dir(dir.path().join("busy")).unwrap();
        let file = WholeFile::at(&path, Durability::Process).temporary_name("busy");
        file.write(b"new").unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::create_dir(&path).unwrap();
        WholeFile::at(&path, Durability::Process).write(b"new").unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_reader_that_holds_the_file_open_keeps_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        let open = File::open(&path).unwrap();
        WholeFile::at(&path, Durability::Process).write(b"new").unwrap();
        assert_eq!(io::read_to_string(open).unwrap(), "old");
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
