//! The facts that a run's plan is made from.

use std::sync::Arc;

use agentvm_crds::{
    AcceptedReason, AgentRunSpec, AgentRunStatus, ConditionStatus, SucceededReason, condition_type,
};
use jiff::Timestamp;

use super::FinishedAttempt;
use crate::{calendar, status::find};

/// The value of `spec.managedBy` that names this operator.
const MANAGED_BY: &str = "agentvm.dev/operator";

/// Is this operator in charge of the run? A run of another controller is left alone, whatever its
/// state is.
pub fn is_ours(spec: &AgentRunSpec) -> bool {
    spec.managed_by.as_deref().is_none_or(|manager| manager == MANAGED_BY)
}

/// A reference of the run to an object or a key that does not exist (yet); or, with the reason
/// `InvalidSpec`, content that no machine takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRef {
    pub reason: AcceptedReason,
    pub message: String,
}

/// The reference that was missing when it was looked for last, according to the status.
pub fn known_missing(status: Option<&AgentRunStatus>) -> Option<MissingRef> {
    let accepted = find(&status?.conditions, condition_type::ACCEPTED)?;
    let reasons = [AcceptedReason::SecretMissing, AcceptedReason::ConfigMapMissing];
    let reason = reasons.into_iter().find(|reason| reason.as_str() == accepted.reason)?;
    Some(MissingRef { reason, message: accepted.message.clone() })
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
    /// Another node has claimed it, and its Lease is not over.
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
    /// Claims in a row whose machine did not start the program, without the open one.
    pub unstarted: u32,
    pub pool: PoolState,
    pub missing: Option<MissingRef>,
    /// The number of runs of the pool that wait before this one.
    pub ahead: u32,
    pub attempt: AttemptState,
    /// The operator is told to stop or is not sure of its Lease, so it claims nothing any more.
    pub draining: bool,
    /// The operator's time to stop is nearly over, so it ends attempts that still execute.
    pub evicting: bool,
    /// Why this node takes no new run of this namespace: its disk is short.
    pub refused: Option<String>,
}

/// A run waits from its creation; after an attempt, from the end of that attempt. While it is
/// suspended, its time does not pass: it waits from the end of the suspension.
pub fn waits_since(
    status: Option<&AgentRunStatus>,
    created: Timestamp,
    now: Timestamp,
) -> Timestamp {
    let last = status.and_then(|status| status.attempts.last());
    let ended = last.and_then(|attempt| calendar::parse(attempt.end_time.as_deref()?));
    let since = ended.unwrap_or(created);
    let suspended = status.and_then(|s| find(&s.conditions, condition_type::SUSPENDED));
    match suspended {
        Some(it) if it.status == ConditionStatus::True => now,
        Some(it) => calendar::parse(&it.last_transition_time).map_or(since, |at| at.max(since)),
        None => since,
    }
}

/// Attempts so far that count. The status lists only some of them, but they are numbered. An
/// attempt that ended because the run was suspended does not count.
pub fn attempts(status: Option<&AgentRunStatus>) -> u32 {
    let attempts = status.map_or(&[][..], |status| &status.attempts);
    let last = attempts.last();
    let number = last.and_then(|attempt| u32::try_from(attempt.number).ok()).unwrap_or(0);
    let suspended = SucceededReason::Suspended.as_str();
    let suspended = attempts.iter().filter(|it| it.reason.as_deref() == Some(suspended)).count();
    number.saturating_sub(u32::try_from(suspended).unwrap_or(u32::MAX))
}

/// Claims in a row that did not start anything.
pub fn unstarted(status: Option<&AgentRunStatus>) -> u32 {
    let claims = status.and_then(|status| status.unstarted_claims);
    claims.and_then(|claims| u32::try_from(claims).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use agentvm_crds::Attempt;

    use super::*;
    use crate::status::Decided;

    fn status(number: i32, ended: Option<i64>) -> AgentRunStatus {
        let at = |second| calendar::text(Timestamp::from_second(second).unwrap());
        let attempt = Attempt {
            number,
            node_name: "n".into(),
            node_id: None,
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
        let now = Timestamp::from_second(20).unwrap();
        assert_eq!(waits_since(None, created, now), created);
        assert_eq!(waits_since(Some(&status(1, None)), created, now), created);
        let ended = waits_since(Some(&status(1, Some(9))), created, now);
        assert_eq!(ended, Timestamp::from_second(9).unwrap());
        let suspended =
            |state| AgentRunStatus {
                conditions: vec![
                    Decided { generation: None, now: Timestamp::from_second(12).unwrap() }
                        .condition(condition_type::SUSPENDED, state, "Suspended", ""),
                ],
                ..status(1, Some(9))
            };
        let since = |state| waits_since(Some(&suspended(state)), created, now).as_second();
        assert_eq!(since(ConditionStatus::True), 20, "its time does not pass");
        assert_eq!(since(ConditionStatus::False), 12, "it begins when the suspension ends");
    }

    #[test]
    fn attempts_are_counted_by_their_numbers() {
        assert_eq!(attempts(None), 0);
        assert_eq!(attempts(Some(&status(7, None))), 7, "earlier ones may have left the list");
        let mut suspended = status(7, Some(9));
        suspended.attempts[0].reason = Some(SucceededReason::Suspended.as_str().to_owned());
        assert_eq!(attempts(Some(&suspended)), 6, "the infrastructure did not fail");
    }
}
