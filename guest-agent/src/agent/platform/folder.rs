//! A folder on a host instead of a machine, for tests of code that talks to agents. It has the user
//! who started the agent, no mounts and no clock.

use std::io;
use std::path::{Path, PathBuf};

use super::PlatformError;
use crate::workspace;

/// The folder that stands for `/workspace`.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes its missing parts.
    pub fn create(path: &Path) -> io::Result<Self> {
        for name in ["input", "output", "work", "secrets"] {
            std::fs::create_dir_all(path.join(name))?;
        }
        Ok(Self { path: path.canonicalize()? })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Nothing secret of the last attempt stays.
    #[allow(clippy::unnecessary_wraps, reason = "a machine's can fail")]
    pub fn clear(&self) -> Result<(), PlatformError> {
        workspace::clear(&self.path.join("secrets"));
        Ok(())
    }

    /// Name and home of the runs' user: the user who started the agent.
    pub fn user() -> (String, String) {
        let variable = |name: &str, otherwise: &str| {
            std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
        };
        (variable("USER", "agent"), variable("HOME", "/"))
    }
}
