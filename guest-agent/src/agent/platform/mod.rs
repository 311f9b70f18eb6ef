//! The surroundings of the agent: a machine of its own, or a folder on a host (for tests without
//! machines). The code above this module does not differ.

mod clock;
mod environment;
mod etc;
mod folder;
mod inspect;
mod machine;
mod rehydrate;

pub use folder::Folder;
pub use machine::Machine;

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use agentvm_guest_agent::protocol::{Execute, GuestLease, Inspection, Nonce, Rehydrate, Status};

use crate::cgroup::CgroupError;
use crate::launch::{Isolation, Spec};
use crate::mounts::MountError;
use crate::network::NetworkError;
use crate::scope::{Folders, Scope};
use crate::users::{AGENT_GID, AGENT_UID};

/// Deferred work of the kernel, at the longest: emulated, with one CPU.
const SETTLE: Duration = Duration::from_millis(1500);

/// Why a machine couldn't do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    #[error("the cgroup of the attempt could not be made")]
    Cgroup(#[source] CgroupError),
    #[error("the workspace could not be mounted")]
    Workspace(#[source] MountError),
    #[error("the network could not be set up")]
    Network(#[source] NetworkError),
    #[error("{0:?} is not a host name of at most 63 letters, digits and hyphens")]
    HostName(String),
    #[error("{0:?} is not a machine-id of 32 lower-case hex characters")]
    MachineId(String),
    #[error("{step} failed")]
    Step {
        step: &'static str,
        #[source]
        why: io::Error,
    },
}

/// One of the two.
#[derive(Debug)]
pub enum Platform {
    Machine(Machine),
    Folder(Folder),
}

impl Platform {
    /// Gives it the identity, the network and the share; all of it, or an error. A folder has the
    /// network of its host.
    pub fn rehydrate(&mut self, order: &Rehydrate) -> Result<(), PlatformError> {
        match self {
            Self::Machine(machine) => machine.rehydrate(order),
            Self::Folder(folder) => folder.clear(),
        }
    }

    /// Has it hold an address that a DHCP server gave it, and says which. A folder has its host's.
    pub async fn lease(&mut self, order: &GuestLease) -> Result<Option<Ipv4Addr>, PlatformError> {
        match self {
            Self::Machine(machine) => {
                rehydrate::refresh(order.time_unix_nanos, &[])?;
                machine.lease(order).await.map(Some)
            }
            Self::Folder(_) => Ok(None),
        }
    }

    /// Renews that address in time, and removes it when the lease ends. Never ends, and may be
    /// dropped at any time.
    pub async fn keep_lease(&mut self) {
        match self {
            Self::Machine(machine) => machine.keep_lease().await,
            Self::Folder(_) => std::future::pending().await,
        }
    }

    /// Refreshes the things that age while a machine is parked: the clock and the randomness.
    pub fn refresh(&self, order: &Execute) -> Result<(), PlatformError> {
        match self {
            Self::Machine(_) => {
                rehydrate::refresh(order.time_unix_nanos, &order.entropy.0)?;
                self.follow_the_host();
                Ok(())
            }
            Self::Folder(_) => Ok(()),
        }
    }

    /// The share sets the clock, where there is one. If that fails, only the order's own time is
    /// left.
    pub fn follow_the_host(&self) {
        if let Some(output) = self.shared_output()
            && let Err(why) = clock::follow(&output)
        {
            crate::log::error("the host's time could not be read off the share", &why);
        }
    }

    fn shared_output(&self) -> Option<PathBuf> {
        let shared = matches!(self, Self::Machine(machine) if machine.has_share());
        shared.then(|| self.workspace().join("output"))
    }

    /// Where the next attempt goes, and the handle on all of it.
    pub fn surroundings(&self) -> Result<(Option<Isolation>, Scope), PlatformError> {
        let group = match self {
            Self::Machine(machine) => Some(machine.group()?),
            Self::Folder(_) => None,
        };
        let isolation = group.as_ref().map(|group| Isolation { cgroup: group.path().to_owned() });
        let folders = Folders { secrets: self.secrets(), shared_output: self.shared_output() };
        Ok((isolation, Scope::new(group, folders)))
    }

    /// The command to start for `order`.
    pub fn spec(&self, order: &Execute) -> Spec {
        let work = self.workspace().join("work");
        Spec {
            argv: order.argv.clone(),
            env: self.environment(order),
            cwd: order.cwd.as_ref().map_or_else(|| work.clone(), |cwd| work.join(cwd)),
            stdin: order.stdin.clone(),
            run_as: order.run_as,
            project: order.project.then(|| self.workspace().join("input")),
        }
    }

    /// Before a golden capture: nothing of the host's mounted, nothing secret left, caches dropped.
    pub fn quiesce(&mut self) -> Result<(), PlatformError> {
        match self {
            Self::Machine(machine) => machine.quiesce(),
            Self::Folder(folder) => folder.clear(),
        }
    }

    /// The nonce of the golden state that this is a copy of, as far as it is known from the start.
    /// An agent in a folder cannot have it in its memory, because it is a new process each time:
    /// the maker of the folder passes it.
    pub fn golden(&self) -> Option<Nonce> {
        match self {
            Self::Machine(_) => None,
            Self::Folder(_) => std::env::var("AGENTVM_GOLDEN").ok()?.parse().ok(),
        }
    }

    /// The kernel still has to clean up after the last attempts. Without this, it would do so in
    /// every copy, while the host waits for the first answer.
    pub async fn settle(&self) {
        if matches!(self, Self::Machine(_)) {
            rustix::fs::sync();
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// The inspection of the machine. A folder shows none, because its processes and mounts are its
    /// host's.
    pub fn inspect(&self, golden: Option<&Nonce>) -> Inspection {
        match self {
            Self::Machine(_) => inspect::machine(golden.cloned()),
            Self::Folder(_) => Inspection::new(golden.cloned(), Vec::new(), Vec::new()),
        }
    }

    pub fn secrets(&self) -> PathBuf {
        self.workspace().join("secrets")
    }

    /// The owner of a run's files, where it can be chosen.
    pub fn owner(&self) -> Option<(u32, u32)> {
        match self {
            Self::Machine(_) => Some((AGENT_UID, AGENT_GID)),
            Self::Folder(_) => None,
        }
    }

    /// The usage figures of the whole machine.
    pub fn status() -> Status {
        let memory = |field| meminfo(field).unwrap_or(0);
        Status {
            uptime_millis: uptime_millis().unwrap_or(0),
            memory_total_bytes: memory("MemTotal:"),
            memory_available_bytes: memory("MemAvailable:"),
            ..Status::default()
        }
    }

    /// Ends the machine; in a folder, this process.
    pub fn power_off(&self) -> ! {
        match self {
            Self::Machine(_) => machine::power_off(),
            Self::Folder(_) => std::process::exit(0),
        }
    }

    fn workspace(&self) -> PathBuf {
        match self {
            Self::Machine(_) => PathBuf::from(crate::workspace::WORKSPACE),
            Self::Folder(folder) => folder.path().to_owned(),
        }
    }
}

/// A field of /proc/meminfo in bytes.
fn meminfo(field: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn uptime_millis() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let (seconds, hundredths) = text.split_ascii_whitespace().next()?.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1000 + hundredths.parse::<u64>().ok()? * 10)
}
