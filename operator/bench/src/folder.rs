//! A folder for one bench, which is removed with the bench.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::{BenchError, step};

/// Removed when this is dropped.
#[derive(Debug)]
pub struct Throwaway(PathBuf);

impl Throwaway {
    /// Makes a folder below `parent`, which QEMU's user must be able to enter. The name is short,
    /// because paths of sockets are limited.
    pub fn make(parent: &Path) -> Result<Self, BenchError> {
        fs::create_dir_all(parent)
            .map_err(step(format!("make the folder {}", parent.display())))?;
        let parent =
            parent.canonicalize().map_err(step(format!("find the folder {}", parent.display())))?;
        let path = parent.join(format!("avmb-{}", std::process::id()));
        let made = Self(path);
        fs::create_dir(&made.0).map_err(step(format!("make the folder {}", made.0.display())))?;
        fs::create_dir(made.host()).map_err(step("make the folder of the machines"))?;
        for folder in [made.0.clone(), made.host()] {
            fs::set_permissions(folder, Permissions::from_mode(0o711))
                .map_err(step("open the folder to QEMU"))?;
        }
        Ok(made)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The folder for goldens and machines.
    pub fn host(&self) -> PathBuf {
        self.0.join("host")
    }

    /// The folder for the reaper.
    pub fn libvirt(&self) -> PathBuf {
        self.0.join("libvirt")
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        if let Err(why) = fs::remove_dir_all(&self.0) {
            let folder = self.0.display();
            tracing::warn!(%folder, %why, "could not remove the folder of the bench");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_all_that_is_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Throwaway::make(&parent.path().join("made")).unwrap();
        assert_eq!(fs::metadata(folder.host()).unwrap().permissions().mode() & 0o777, 0o711);
        fs::write(folder.host().join("file"), "x").unwrap();
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
        assert!(Throwaway::make(Path::new("/dev/null/x")).is_err());
    }
}
