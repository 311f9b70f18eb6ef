//! The facts that a run's plan is made from.

use std::sync::Arc;

use agentvm_crds::{AcceptedReason, AgentRunStatus};
use jiff::Timestamp;

use super::FinishedAttempt;
use crate::calendar;

/// A reference of the run to an object or a key that does not exist (yet).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRef {
    pub reason: AcceptedReason,
    pub message: String,
}

/// The run's pool, on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolState {
    Missing,
    /// `trouble` is the pool's own reason for having no machines, if it has one.
    Present {
        free: u32,
        total: u32,
        max: u32,
        trouble: Option<String>,
    },
}

/// The attempt that the status says is under way.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptState {
    /// The status has no open attempt.
    None,
    /// Another node has claimed it.
    Elsewhere,
    /// This node has claimed it, and nothing was sent to the machine: the claim is new, or the
    /// operator was restarted.
    Claimed,
    Executing,
    Ended(Arc<FinishedAttempt>),
}

/// All facts about a run.
#[derive(Clone, Debug)]
pub struct RunFacts {
    /// The time when it began to wait: see [`waits_since`].
    pub waits_since: Timestamp,
    /// Attempts that the status has, the open one included.
    pub attempts: u32,
    pub pool: PoolState,
    pub missing: Option<MissingRef>,
    /// The number of runs of the pool that wait before this one.
    pub ahead: u32,
    pub attempt: AttemptState,
    /// The operator is told to stop, so it claims nothing any more.
    pub draining: bool,
    /// The operator's time to stop is nearly over, so it ends attempts that still execute.
    pub evicting: bool,
    /// Why this node takes no new run of this namespace: its disk is short.
    pub refused: Option<String>,
}

/// A run waits from its creation; after an attempt, from the end of that attempt.
pub fn waits_since(status: Option<&AgentRunStatus>, created: Timestamp) -> Timestamp {
    let last = status.and_then(|status| status.attempts.last());
    let ended = last.and_then(|attempt| calendar::parse(attempt.end_time.as_deref()?));
    ended.unwrap_or(created)
}

/// Attempts so far. The status lists only some of them, but they are numbered.
pub fn attempts(status: Option<&AgentRunStatus>) -> u32 {
    let last = status.and_then(|status| status.attempts.last());
    last.and_then(|attempt| u32::try_from(attempt.number).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use agentvm_crds::Attempt;

    use super::*;

    fn status(number: i32, ended: Option<i64>) -> AgentRunStatus {
        let at = |second| calendar::text(Timestamp::from_second(second).unwrap());
        let attempt = Attempt {
            number,
            node_name: "n".into(),
            vm_name: "m".into(),
            nonce: "00".into(),
            start_time: at(5),
            end_time: ended.map(at),
            reason: None,
            exit_code: None,
        };
        AgentRunStatus { attempts: vec![attempt], ..AgentRunStatus::default() }
    }

    #[test]
    fn a_run_waits_from_its_creation_or_from_the_end_of_its_last_attempt() {
        let created = Timestamp::from_second(1).unwrap();
        assert_eq!(waits_since(None, created), created);
        assert_eq!(waits_since(Some(&status(1, None)), created), created);
        let ended = waits_since(Some(&status(1, Some(9))), created);
        assert_eq!(ended, Timestamp::from_second(9).unwrap());
    }

    #[test]
    fn attempts_are_counted_by_their_numbers() {
        assert_eq!(attempts(None), 0);
        assert_eq!(attempts(Some(&status(7, None))), 7, "earlier ones may have left the list");
    }
}
