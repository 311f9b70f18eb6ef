//! The files by which the reaper and its starter exchange data, in one folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use agentvm_files::{Durability, WholeFile, check_trusted, make_trusted};
use serde::{Deserialize, Serialize};

use super::DaemonSpec;
use crate::standalone::process::ProcessId;

/// The folder of one reaper.
#[derive(Clone, Debug)]
pub struct ReaperFiles {
    folder: PathBuf,
}

/// The identities of the reaper and its daemons, for the next `standalone` on this data folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaperState {
    pub reaper: ProcessId,
    /// The daemons that run now, by name.
    pub daemons: Vec<(String, ProcessId)>,
}

impl ReaperFiles {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The reaper's own log.
    pub fn log(&self) -> PathBuf {
        self.folder.join("reaper.log")
    }

    /// The output of a daemon.
    pub fn daemon_log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// The starter writes this before it starts the reaper.
    pub fn write_daemons(&self, daemons: &[DaemonSpec]) -> io::Result<()> {
        make_trusted(&self.folder, 0o700).map_err(io::Error::other)?;
        self.write("daemons.json", &serde_json::to_vec_pretty(daemons)?)
    }

    pub fn read_daemons(&self) -> io::Result<Vec<DaemonSpec>> {
        // It names programs that we start as root.
        check_trusted(&self.folder).map_err(io::Error::other)?;
        Ok(serde_json::from_slice(&fs::read(self.folder.join("daemons.json"))?)?)
    }

    pub fn write_state(&self, state: &ReaperState) -> io::Result<()> {
        self.write("reaper.json", &serde_json::to_vec_pretty(state)?)
    }

    /// The state of a reaper that lives. The state of a dead one is ignored, and so is one that
    /// another user may have written: we send signals to the process that it names.
    pub fn living(&self) -> Option<ReaperState> {
        check_trusted(&self.folder).ok()?;
        let state: ReaperState =
            serde_json::from_slice(&fs::read(self.folder.join("reaper.json")).ok()?).ok()?;
        state.reaper.is_alive().then_some(state)
    }

    /// A reaper that ends in order removes its state. A state that remains shows that the reaper
    /// was killed.
    pub fn remove_state(&self) {
        let _ = fs::remove_file(self.folder.join("reaper.json"));
    }

    /// `None` if another reaper runs in this folder.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.folder.join("reaper.lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        WholeFile::at(&self.folder.join(name), Durability::Process).write(content)
    }
}
