//! Starting a command, in two processes:
//!
//! ```text
//!   agent ── control socket (its stdin), JSON lines ── launcher ── fork, exec ── the command
//!           -> Spec                                    PID 1 of the attempt's PID namespace,
//!           <- Started | Refused                       or a subreaper where there is none
//!           <- Exited
//! ```
//!
//! The launcher is this same program. It prepares the command's surroundings, reaps what the command leaves behind, and when
//! the command ends, so does everything that descends from it. The agent never forks into anything but the launcher.

mod launcher;
mod sandbox;
mod spawn;
mod tree;

pub use launcher::run as run_launcher;
pub use spawn::{Launched, launch};

use std::path::PathBuf;

use agentvm_guest_agent::protocol::{Blob, RunAs};
use serde::{Deserialize, Serialize};

/// The argument that makes this program a launcher.
pub const LAUNCHER_ARGUMENT: &str = "--launcher";

/// What to start, and in which surroundings. Decided by the agent, complete: the launcher looks nothing up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: PathBuf,
    pub stdin: Option<Blob>,
    /// Absent where there is no machine of our own around it.
    pub isolation: Option<Isolation>,
}

/// How a command is kept away from the agent in a machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Isolation {
    pub cgroup: PathBuf,
    pub run_as: RunAs,
}

/// From the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    Terminate,
    Kill,
}

/// From the launcher; the end of the stream means that it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    Started,
    /// The command could not be started; a shell would exit with this code.
    Refused {
        code: i32,
        message: String,
    },
    /// The command itself ended; one of the two is there.
    Exited {
        code: Option<i32>,
        signal: Option<i32>,
    },
}
