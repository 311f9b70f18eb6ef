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
//! The launcher is this same program. It first prepares the command's surroundings, which takes most of the time and none of the
//! command's own data, so that it can be done ahead; then it starts the command, reaps what the command leaves behind, and when
//! the command ends, so does everything that descends from it. The agent never forks into anything but the launcher.

mod launcher;
mod sandbox;
mod spawn;
mod tree;

pub use launcher::run as run_launcher;
pub use spawn::{LaunchError, Launched, launch};

use std::path::PathBuf;

use agentvm_guest_agent::protocol::{Blob, RunAs};
use serde::{Deserialize, Serialize};

/// The argument that makes this program a launcher.
pub const LAUNCHER_ARGUMENT: &str = "--launcher";

/// What to start. Decided by the agent, complete: the launcher looks nothing up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: PathBuf,
    pub stdin: Option<Blob>,
    /// Without isolation it is whoever started the agent.
    pub run_as: RunAs,
}

/// How a command is kept away from the agent in a machine. Absent where there is no machine of our own around it.
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
