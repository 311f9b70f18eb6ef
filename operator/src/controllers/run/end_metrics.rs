//! The metrics of a finished run. They are read from its status, the only truth about it.

use std::time::Duration;

use agentvm_core::status::find;
use agentvm_crds::{AgentRunStatus, Condition, condition_type};

use crate::metrics::{AcquireKind, Metrics};

/// The end of a run.
#[derive(Debug, PartialEq)]
pub struct End {
    reason: String,
    ran: Option<Duration>,
    /// The time from the claim to the acknowledgement; none where there was no machine.
    acquired: Option<(AcquireKind, Duration)>,
}

impl End {
    /// The end in a status of a finished run.
    pub fn of(status: &AgentRunStatus) -> Option<Self> {
        let condition = |type_: &str| find(&status.conditions, type_);
        let over = condition(condition_type::SUCCEEDED)
            .filter(|c| c.status != agentvm_crds::ConditionStatus::Unknown)?;
        let ran =
            status.duration_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let timings = status.timings.as_ref().filter(|_| ran.is_some());
        let acquired = timings.map(|timings| {
            let millis = timings.acquire_millis.saturating_add(timings.start_millis);
            let kind =
                kind(condition(condition_type::ACCEPTED), condition(condition_type::SCHEDULED));
            (kind, Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
        });
        Some(Self { reason: over.reason.clone(), ran, acquired })
    }

    pub fn count(&self, pool: &str, metrics: &Metrics) {
        metrics.run_ended(pool, &self.reason, self.ran);
        if let Some((kind, took)) = self.acquired {
            metrics.acquired(pool, kind, took);
        }
    }
}

/// A run that finds a machine is accepted and claimed in one status. A run that waits is accepted
/// before.
fn kind(accepted: Option<&Condition>, scheduled: Option<&Condition>) -> AcquireKind {
    let since = |condition: Option<&Condition>| condition.map(|c| c.last_transition_time.clone());
    if since(accepted) == since(scheduled) { AcquireKind::Hit } else { AcquireKind::Cold }
}

#[cfg(test)]
mod tests {
    use agentvm_core::names::DomainName;
    use agentvm_core::run::{AttemptEnd, AttemptResult, Claim, Fetched, FinishedAttempt, Outcome};
    use agentvm_core::run::{Wait, accepted_waiting, claimed, finished, finished_attempt};
    use agentvm_core::status::Decided;
    use agentvm_crds::{AcceptedReason, OutputStatus, ScheduledReason, SucceededReason, Timings};
    use agentvm_types::{NodeName, Nonce};
    use jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Decided {
        Decided { generation: Some(1), now: Timestamp::from_second(second).unwrap() }
    }

    fn ended(before: &AgentRunStatus) -> Option<End> {
        let (node, vm) = (NodeName::new("n"), DomainName::from_recorded("m"));
        let node_id = agentvm_types::NodeId::new("id");
        let claim = Claim { node, node_id, vm, nonce: Nonce::from_bytes([0; 16]), reset: None };
        let claimed = claimed(before, &claim, at(5));
        assert_eq!(End::of(&claimed), None, "it is under way");
        let timings = Timings { acquire_millis: 10, start_millis: 5, ..Timings::default() };
        let outcome = Outcome { duration_seconds: Some(1.5), timings, ..Outcome::default() };
        let result =
            AttemptResult { end: AttemptEnd::Exited(0), started: true, message: String::new() };
        let kept = Fetched::Kept(OutputStatus::default());
        let done = FinishedAttempt::concluded(result, outcome, kept);
        End::of(&finished_attempt(&claimed, &done, at(9)))
    }

    #[test]
    fn a_run_that_waited_is_told_from_one_that_found_a_machine() {
        let found = ended(&AgentRunStatus::default()).unwrap();
        let took = Duration::from_millis(15);
        let ran = Some(Duration::from_millis(1500));
        let expected = |kind| End { reason: "Completed".into(), ran, acquired: Some((kind, took)) };
        assert_eq!(found, expected(AcquireKind::Hit));
        let wait = Wait {
            accepted: AcceptedReason::Valid,
            scheduled: ScheduledReason::WaitingForMachine,
            message: String::new(),
        };
        let waiting = accepted_waiting(&AgentRunStatus::default(), &wait, at(1));
        assert_eq!(ended(&waiting).unwrap(), expected(AcquireKind::Cold));
    }

    #[test]
    fn a_run_without_a_machine_measures_nothing() {
        let status = finished(&AgentRunStatus::default(), SucceededReason::QueueTimeout, "", at(1));
        let end = End::of(&status).unwrap();
        assert_eq!(end, End { reason: "QueueTimeout".into(), ran: None, acquired: None });
    }
}
