//! The life of one machine. One task owns it ([`super::task`]); everyone else reads it from the board.
//!
//! ```text
//!            prepared                 pop                 Drive
//! Creating ----------> Idle ----------------> Claimed ----------> Driven --------> Ended
//!   |  |               ^ |   <--------------    |                                    |
//!   |  |      prepared | |       give back      |                                    | Release
//!   |  |               | +----------------------+-----------> Ending <---------------+
//!   |  |               |       retired, lost             ^  ^  ^  |     replaced     |
//!   |  +---------------|---------------------------------+  |  |  +-> (slot empty)   |
//!   |       failed     +------------------ Resetting -------+  |                     |
//!   |                                        |  ^     failed   |                     |
//!   |    not the golden state     not proven |  +--------------|---------------------+
//!   +----------------> Quarantined <---------+                 |     brought back
//!                           +----------------------------------+
//!                                  time over, retired
//! ```
//!
//! What has executed something is never lent again as it is: it is proven to be in its golden state again, as another
//! incarnation with a nonce and a token of its own, or it goes.

use std::sync::Arc;

use agentvm_core::run::FinishedAttempt;
use agentvm_types::RunUid;
use jiff::Timestamp;

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
    /// On its way back to the golden state, as another incarnation already.
    Resetting,
    /// Not in the golden state where it should be: kept for a look, lent to nobody.
    Quarantined { until: Timestamp },
    /// Being removed.
    Ending,
}

impl Life {
    /// The run that has it.
    pub fn run(&self) -> Option<&RunUid> {
        match self {
            Self::Claimed { run } | Self::Driven { run } | Self::Ended { run, .. } => Some(run),
            Self::Creating
            | Self::Idle { .. }
            | Self::Resetting
            | Self::Quarantined { .. }
            | Self::Ending => None,
        }
    }

    /// Told to end, it ends now.
    pub fn may_retire(&self) -> bool {
        matches!(self, Self::Idle { .. } | Self::Quarantined { .. })
    }
}
