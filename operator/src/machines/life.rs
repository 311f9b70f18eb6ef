//! The life of one machine. One task owns it ([`super::task`]); everyone else reads it from the board.
//!
//! ```text
//!            prepared                 pop                 Drive
//! Creating ----------> Idle ----------------> Claimed ----------> Driven --------> Ended
//!     |                  |   <--------------    |                                    |
//!     |                  |       give back      |                                    | Release
//!     +------------------+----------------------+-----------> Ending <---------------+
//!         failed              retired, lost                     |
//!                                                          (slot empty)
//! ```
//!
//! A machine never goes back from `Driven`: what has executed something is thrown away and made anew.

use std::sync::Arc;

use agentvm_core::run::FinishedAttempt;
use jiff::Timestamp;

/// The UID of the run that has a machine.
pub type RunUid = String;

/// Where a machine is in its life.
#[derive(Clone, Debug)]
pub enum Life {
    /// Being made and prepared.
    Creating,
    /// Prepared and paused.
    Idle { since: Timestamp },
    /// Taken for a run; nothing was sent to it. The claim may be durable or not.
    Claimed { run: RunUid },
    /// The claim is durable; somebody brings it to execute, or waits for its end.
    Driven { run: RunUid },
    /// The attempt is over. The machine is kept until the end is durable.
    Ended { run: RunUid, done: Arc<FinishedAttempt> },
    /// Being removed.
    Ending,
}

impl Life {
    /// The run that has it.
    pub fn run(&self) -> Option<&RunUid> {
        match self {
            Self::Claimed { run } | Self::Driven { run } | Self::Ended { run, .. } => Some(run),
            Self::Creating | Self::Idle { .. } | Self::Ending => None,
        }
    }
}
