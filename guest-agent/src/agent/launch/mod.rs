//! Starting a command, in two processes:
//!
//! ```text
//!   agent ── control socket (its stdin), JSON lines ── launcher ── fork, exec ── the command
//!           -> Option<Isolation>                       PID 1 of the attempt's PID namespace,
//!           <- Ready | Refused                         or a subreaper where there is none
//!           -> Spec                                    (this may be much later)
//!           <- Started | Refused
//!           <- Exited
//! ```
//!
//! The launcher is this program again. It first prepares the command's surroundings. That takes
//! most of the time and needs no data of the command, so it can be done ahead. Then it starts the
//! command, and reaps the processes that the command leaves behind. When the command ends, all of
//! its descendants end. The agent never forks into anything but the launcher.

mod launcher;
mod sandbox;
mod start_command;
mod start_launcher;
mod tree;

pub use launcher::run as run_launcher;
pub use start_launcher::{LaunchError, Launched, launch};

use std::path::PathBuf;

use agentvm_guest_agent::protocol::{Blob, RunAs};
use serde::{Deserialize, Serialize};

/// The argument that makes this program a launcher.
pub const LAUNCHER_ARGUMENT: &str = "--launcher";

/// The command to start. The agent decides all of it, and the launcher looks nothing up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    pub argv: Vec<String>,
    pub env: Vec<(String, Blob)>,
    pub cwd: PathBuf,
    pub stdin: Option<Blob>,
    /// Without isolation it is the user who started the agent.
    pub run_as: RunAs,
    /// The folder whose files are copied into `cwd` first.
    pub project: Option<PathBuf>,
}

/// The isolation of a command from the agent in a machine. It is absent where the agent has no
/// machine of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Isolation {
    pub cgroup: PathBuf,
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
    /// The surroundings are there; the command may come.
    Ready,
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
