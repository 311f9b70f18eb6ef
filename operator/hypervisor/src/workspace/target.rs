//! The folder that a collection fills: ours alone, with one descriptor at a time.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, Result};

use super::tree;

/// A place below the folder. No guest writes there, so `..` leads up.
pub struct Target {
    at: OwnedFd,
    path: Vec<String>,
}

impl Target {
    pub fn new(root: OwnedFd) -> Self {
        Self { at: root, path: Vec::new() }
    }

    /// Goes to a folder, and makes the folders on the way. A walk goes to neighbours, so the cost
    /// is that of the walk.
    pub fn enter(&mut self, path: &[String]) -> Result<()> {
        let common = self.path.iter().zip(path).take_while(|(a, b)| a == b).count();
        while self.path.len() > common {
            self.at = rustix::fs::openat(&self.at, "..", OFlags::PATH | OFlags::CLOEXEC, NO_MODE)?;
            self.path.pop();
        }
        for name in &path[common..] {
            match rustix::fs::mkdirat(&self.at, name.as_str(), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(other) => return Err(other),
            }
            self.at = tree::open_folder(&self.at, name.as_str())?;
            self.path.push(name.clone());
        }
        Ok(())
    }

    /// A new file in the folder.
    pub fn create(&self, name: &str, executable: bool) -> Result<OwnedFd> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = if executable { Mode::RWXU } else { Mode::RUSR | Mode::WUSR };
        rustix::fs::openat(self.at.as_fd(), name, flags, mode)
    }

    pub fn remove(&self, name: &str) -> Result<()> {
        rustix::fs::unlinkat(&self.at, name, AtFlags::empty())
    }
}

const NO_MODE: Mode = Mode::empty();
