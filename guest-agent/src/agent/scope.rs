//! The scope of an attempt's processes, for counting, signals and killing: a cgroup in a machine,
//! the launcher elsewhere.

use std::fs::File;
use std::path::PathBuf;

use agentvm_guest_agent::protocol::Status;

use crate::cgroup::{CgroupError, Group};
use crate::launch::{Launched, Order};
use crate::workspace;

/// The handle on everything an attempt has started.
#[derive(Debug)]
pub struct Scope {
    group: Option<Group>,
    folders: Folders,
}

/// The work on the workspace when an attempt is over.
#[derive(Debug)]
pub struct Folders {
    /// Emptied.
    pub secrets: PathBuf,
    /// Written through to the host, where it is shared with one.
    pub shared_output: Option<PathBuf>,
}

impl Scope {
    /// With a cgroup where there is one.
    pub fn new(group: Option<Group>, folders: Folders) -> Self {
        Self { group, folders }
    }

    /// No more processes at a time than `most`, where that isn't 0.
    pub fn limit(&self, most: u32) -> Result<(), CgroupError> {
        match &self.group {
            Some(group) if most > 0 => group.limit_processes(most),
            _ => Ok(()),
        }
    }

    /// SIGTERM to all.
    pub fn terminate(&self, launched: &mut Launched) {
        match &self.group {
            Some(group) => group.terminate(),
            None => launched.order(Order::Terminate),
        }
    }

    /// Sends SIGKILL to all processes in the cgroup. Without a cgroup, only the launcher can kill.
    pub fn kill(&self) {
        if let Some(group) = &self.group {
            group.kill();
        }
    }

    /// Whether nothing is left. Without a cgroup, the launcher's end says so.
    pub fn is_empty(&self) -> bool {
        self.group.as_ref().is_none_or(Group::is_empty)
    }

    /// Whether the kernel had to kill for memory, where that can be known.
    pub fn oom_killed(&self) -> Option<bool> {
        self.group.as_ref().map(|group| group.oom_kills() > 0)
    }

    /// The attempt's part of a status.
    pub fn measure(&self, status: &mut Status) {
        if let Some(group) = &self.group {
            status.attempt_memory_bytes = group.memory_bytes();
            status.attempt_cpu_micros = group.cpu_micros();
            status.attempt_processes = group.processes();
        }
    }

    /// Removes the cgroup and the secrets of the attempt. The host reads the output as soon as it
    /// has the result, so writes through memory mappings must be there by then.
    pub fn finish(&mut self) {
        self.group = None;
        workspace::clear(&self.folders.secrets);
        if let Some(output) =
            self.folders.shared_output.as_ref().and_then(|path| File::open(path).ok())
        {
            let _ = rustix::fs::syncfs(output);
        }
    }
}
