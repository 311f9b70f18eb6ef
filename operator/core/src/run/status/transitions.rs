//! The next status of a run: it waits, is claimed, is given back, or is over.

use agentvm_crds::{
    AcceptedReason, AgentRunStatus, Attempt, ConditionStatus, ScheduledReason, SucceededReason,
    condition_type,
};
use agentvm_types::{NodeId, Nonce};
use jiff::Timestamp;

use super::bounds::{
    MAX_ATTEMPTS, MAX_FILES, MAX_SKIPPED, MAX_TAIL, bounded, bounded_network, bounded_reset,
};
use super::conditions::Conditions;
use crate::run::{
    Wait,
    result::{AttemptResult, Claim, FinishedAttempt},
};
use crate::{
    calendar,
    status::{Decided, find, marked_tail, settle},
};

/// Is it over?
pub fn is_finished(status: Option<&AgentRunStatus>) -> bool {
    status
        .and_then(|s| find(&s.conditions, condition_type::SUCCEEDED))
        .is_some_and(|c| c.status != ConditionStatus::Unknown)
}

/// The attempt that is under way.
pub fn open_attempt(status: Option<&AgentRunStatus>) -> Option<&Attempt> {
    if is_finished(status) {
        return None;
    }
    status.and_then(|s| s.attempts.last()).filter(|attempt| attempt.end_time.is_none())
}

/// Whether a machine of the node `id` that holds this incarnation holds it in vain: the attempt was
/// closed, or another node has claimed the run since. Both happen only to a node that others took
/// for gone.
pub fn is_superseded(status: Option<&AgentRunStatus>, held: &Nonce, id: &NodeId) -> bool {
    let Some(last) = status.and_then(|status| status.attempts.last()) else { return false };
    if last.nonce == held.as_str() {
        return last.end_time.is_some();
    }
    last.end_time.is_none() && last.node_id.as_deref().is_some_and(|node| node != id.as_str())
}

/// The run waits for a machine or for its references.
pub fn accepted_waiting(old: &AgentRunStatus, wait: &Wait, decided: Decided) -> AgentRunStatus {
    let list = Conditions(decided).waiting(&old.conditions, wait);
    AgentRunStatus {
        observed_generation: decided.generation,
        conditions: settle(&old.conditions, list),
        ..old.clone()
    }
}

/// A machine is claimed: a new attempt is open.
pub fn claimed(old: &AgentRunStatus, claim: &Claim, decided: Decided) -> AgentRunStatus {
    let make = Conditions(decided);
    let number = old.attempts.last().map_or(1, |a| a.number.saturating_add(1));
    let message = format!("{} on {}, attempt {number}", claim.vm, claim.node);
    let mut list = vec![
        make.accepted(ConditionStatus::True, AcceptedReason::Valid, "the spec is valid"),
        make.scheduled(ConditionStatus::True, ScheduledReason::Claimed, &message),
        make.succeeded(
            ConditionStatus::Unknown,
            SucceededReason::Running,
            &format!("runs in {}", claim.vm),
        ),
        decided.condition(condition_type::RECONCILING, ConditionStatus::True, "Running", &message),
    ];
    list.extend(make.suspended(&old.conditions, false));
    let mut attempts = old.attempts.clone();
    if attempts.len() >= MAX_ATTEMPTS {
        attempts.remove(1);
    }
    attempts.push(Attempt {
        number,
        node_name: claim.node.to_string(),
        node_id: Some(claim.node_id.to_string()),
        vm_name: claim.vm.to_string(),
        nonce: claim.nonce.to_string(),
        start_time: calendar::text(decided.now),
        end_time: None,
        reason: None,
        exit_code: None,
    });
    AgentRunStatus {
        observed_generation: decided.generation,
        conditions: settle(&old.conditions, list),
        node_name: Some(claim.node.to_string()),
        vm_name: Some(claim.vm.to_string()),
        attempts,
        unstarted_claims: old.unstarted_claims,
        reset: claim.reset.as_ref().map(bounded_reset),
        ..AgentRunStatus::default()
    }
}

/// The claim is taken back. A claim that was never started leaves no attempt behind.
pub fn unclaimed(
    old: &AgentRunStatus,
    result: &AttemptResult,
    counts: bool,
    decided: Decided,
) -> AgentRunStatus {
    let mut attempts = old.attempts.clone();
    let mut unstarted_claims = None;
    if counts {
        close_last(&mut attempts, result, None, decided.now);
    } else {
        attempts.pop();
        unstarted_claims = Some(old.unstarted_claims.unwrap_or(0).saturating_add(1));
    }
    let message = format!("waits for another machine: {}", result.text());
    let wait = Wait {
        accepted: AcceptedReason::Valid,
        scheduled: ScheduledReason::WaitingForMachine,
        message,
    };
    let list = Conditions(decided).waiting(&old.conditions, &wait);
    AgentRunStatus {
        observed_generation: decided.generation,
        conditions: settle(&old.conditions, list),
        attempts,
        unstarted_claims,
        ..AgentRunStatus::default()
    }
}

/// It is over without an attempt under way: cancelled, timed out in the queue, invalid.
pub fn finished(
    old: &AgentRunStatus,
    reason: SucceededReason,
    message: &str,
    decided: Decided,
) -> AgentRunStatus {
    let make = Conditions(decided);
    let keep = |type_: &str| find(&old.conditions, type_).cloned();
    let accepted = match reason {
        SucceededReason::InvalidSpec => {
            make.accepted(ConditionStatus::False, AcceptedReason::InvalidSpec, message)
        }
        _ => keep(condition_type::ACCEPTED).unwrap_or_else(|| {
            make.accepted(ConditionStatus::True, AcceptedReason::Valid, "the spec is valid")
        }),
    };
    let mut list = vec![accepted];
    list.extend(keep(condition_type::SCHEDULED));
    list.extend(keep(condition_type::SUSPENDED));
    list.extend(make.over(reason, message));
    AgentRunStatus {
        observed_generation: decided.generation,
        conditions: settle(&old.conditions, list),
        completion_time: Some(calendar::text(decided.now)),
        ..old.clone()
    }
}

/// The attempt under way ended, and the run with it.
pub fn finished_attempt(
    old: &AgentRunStatus,
    done: &FinishedAttempt,
    decided: Decided,
) -> AgentRunStatus {
    let FinishedAttempt { result, outcome } = done;
    let mut status = finished(old, result.reason(), &result.text(), decided);
    close_last(&mut status.attempts, result, outcome.exit_code, decided.now);
    let (stdout, stdout_cut) = marked_tail(&outcome.stdout, outcome.stdout_missing, MAX_TAIL);
    let (stderr, stderr_cut) = marked_tail(&outcome.stderr, outcome.stderr_missing, MAX_TAIL);
    status.unstarted_claims = old.unstarted_claims.filter(|_| !result.started);
    status.exit_code = outcome.exit_code;
    status.signal = outcome.signal;
    status.stdout = Some(stdout);
    status.stdout_truncated = Some(stdout_cut || outcome.stdout_cut);
    status.stderr = Some(stderr);
    status.stderr_truncated = Some(stderr_cut || outcome.stderr_cut);
    status.duration_seconds = outcome.duration_seconds;
    status.output.clone_from(&outcome.output);
    status.network = outcome.network.as_ref().map(bounded_network);
    status.timings = Some(outcome.timings.clone());
    if let Some(output) = &mut status.output {
        output.files.truncate(MAX_FILES);
        output.skipped.truncate(MAX_SKIPPED);
    }
    bounded(status)
}

fn close_last(
    attempts: &mut [Attempt],
    result: &AttemptResult,
    exit_code: Option<i32>,
    now: Timestamp,
) {
    if let Some(last) = attempts.last_mut().filter(|a| a.end_time.is_none()) {
        last.end_time = Some(calendar::text(now));
        last.reason = Some(result.reason().as_str().to_owned());
        last.exit_code = exit_code;
    }
}

#[cfg(test)]
mod tests {
    use crate::names::DomainName;
    use agentvm_crds::{
        DeniedFlow, MAX_STATUS_BYTES, OutputFile, OutputStatus, ResetCheck, ResetStatus, RunNetwork,
    };
    use agentvm_types::{NodeId, NodeName, Nonce};
    use proptest::prelude::*;

    use super::*;
    use crate::run::{AttemptEnd, Outcome};

    fn decided() -> Decided {
        Decided { generation: Some(1), now: Timestamp::from_second(1_000).unwrap() }
    }

    fn claim() -> Claim {
        let (node, vm) = (NodeName::new("n"), DomainName::from_recorded("avm-1"));
        let node_id = NodeId::new("id");
        Claim { node, node_id, vm, nonce: Nonce::from_bytes([0; 16]), reset: None }
    }

    fn proven(checks: usize, result: &str) -> Claim {
        let check = ResetCheck { name: "memory".into(), result: result.into() };
        let reset = ResetStatus { tier: "InPlace".into(), millis: 24, checks: vec![check; checks] };
        Claim { reset: Some(reset), ..claim() }
    }

    fn check(status: &AgentRunStatus, type_: &str) -> (ConditionStatus, String) {
        let found = find(&status.conditions, type_).unwrap();
        (found.status, found.reason.clone())
    }

    fn ended(end: AttemptEnd) -> FinishedAttempt {
        FinishedAttempt {
            result: AttemptResult { end, started: true, message: String::new() },
            outcome: Outcome::default(),
        }
    }

    #[test]
    fn a_run_goes_from_waiting_over_claimed_to_its_end() {
        let old = AgentRunStatus::default();
        let wait = Wait {
            accepted: AcceptedReason::Valid,
            scheduled: ScheduledReason::WaitingForMachine,
            message: "0 of 4".into(),
        };
        let waiting = accepted_waiting(&old, &wait, decided());
        assert_eq!(
            check(&waiting, "Scheduled"),
            (ConditionStatus::False, "WaitingForMachine".into())
        );
        assert!(open_attempt(Some(&waiting)).is_none());
        let claimed = claimed(&waiting, &claim(), decided());
        assert_eq!(open_attempt(Some(&claimed)).unwrap().number, 1);
        assert_eq!(check(&claimed, "Succeeded"), (ConditionStatus::Unknown, "Running".into()));
        let done = finished_attempt(&claimed, &ended(AttemptEnd::Exited(0)), decided());
        assert_eq!(check(&done, "Succeeded"), (ConditionStatus::True, "Completed".into()));
        assert!(is_finished(Some(&done)) && open_attempt(Some(&done)).is_none());
        assert_eq!(done.attempts[0].reason.as_deref(), Some("Completed"));
        let failed = finished_attempt(&claimed, &ended(AttemptEnd::Exited(3)), decided());
        assert_eq!(check(&failed, "Succeeded"), (ConditionStatus::False, "NonZeroExit".into()));
        assert!(find(&failed.conditions, "Reconciling").is_none());
    }

    #[test]
    fn a_claim_that_was_never_used_leaves_no_trace_and_a_lost_one_counts() {
        let claimed = claimed(&AgentRunStatus::default(), &proven(1, "Passed"), decided());
        assert_eq!(claimed.reset.as_ref().unwrap().checks[0].result, "Passed");
        let lost = ended(AttemptEnd::GuestLost).result;
        assert!(unclaimed(&claimed, &lost, false, decided()).attempts.is_empty());
        let counted = unclaimed(&claimed, &lost, true, decided());
        assert_eq!(counted.attempts[0].reason.as_deref(), Some("GuestLost"));
        assert_eq!(
            (&counted.vm_name, &counted.reset),
            (&None, &None),
            "what proved that machine proves no other"
        );
        assert_eq!(super::claimed(&counted, &claim(), decided()).attempts[1].number, 2);
    }

    #[test]
    fn every_end_is_finished_and_has_a_time() {
        let claimed = claimed(&AgentRunStatus::default(), &claim(), decided());
        let without_an_attempt = SucceededReason::ALL
            .iter()
            .filter(|reason| {
                !matches!(reason, SucceededReason::Running | SucceededReason::Suspended)
            })
            .map(|reason| (*reason, finished(&claimed, *reason, "over", decided())));
        let ends = [
            AttemptEnd::Exited(0),
            AttemptEnd::Exited(1),
            AttemptEnd::Signaled(9),
            AttemptEnd::DeadlineExceeded,
            AttemptEnd::Cancelled,
            AttemptEnd::Evicted,
            AttemptEnd::GuestLost,
            AttemptEnd::NodeLost,
            AttemptEnd::OutputTooLarge,
        ];
        let with_one = ends.map(|end| {
            let done = ended(end);
            (done.result.reason(), finished_attempt(&claimed, &done, decided()))
        });
        let time = Some(calendar::text(decided().now));
        for (reason, status) in without_an_attempt.chain(with_one) {
            let expected = (ConditionStatus::True, reason.as_str().to_owned());
            assert_eq!(check(&status, "Finished"), expected);
            assert_eq!(status.completion_time, time);
            assert!(find(&status.conditions, "Reconciling").is_none());
        }
        for status in [AgentRunStatus::default(), claimed] {
            assert!(find(&status.conditions, "Finished").is_none());
            assert_eq!(status.completion_time, None);
        }
    }

    #[test]
    fn a_suspension_is_said_and_its_end_stays() {
        let at = |second| Decided { now: Timestamp::from_second(second).unwrap(), ..decided() };
        let wait =
            |scheduled| Wait { accepted: AcceptedReason::Valid, scheduled, message: String::new() };
        let (suspended, for_machine) =
            (wait(ScheduledReason::Suspended), wait(ScheduledReason::WaitingForMachine));
        let first = accepted_waiting(&AgentRunStatus::default(), &for_machine, at(1));
        assert!(find(&first.conditions, "Suspended").is_none());
        let paused = accepted_waiting(&first, &suspended, at(2));
        assert_eq!(check(&paused, "Suspended").0, ConditionStatus::True);
        assert_eq!(check(&paused, "Scheduled").1, "Suspended");
        let resumed = accepted_waiting(&paused, &for_machine, at(3));
        let claimed = claimed(&resumed, &claim(), at(4));
        let again = unclaimed(&claimed, &ended(AttemptEnd::GuestLost).result, false, at(5));
        let done = finished(&again, SucceededReason::QueueTimeout, "", at(6));
        for status in [resumed, claimed, again, done] {
            let it = find(&status.conditions, "Suspended").unwrap();
            assert_eq!(it.status, ConditionStatus::False);
            assert_eq!(it.last_transition_time, calendar::text(at(3).now));
        }
    }

    #[test]
    fn an_invalid_run_says_so_twice() {
        let reason = SucceededReason::InvalidSpec;
        let status = finished(&AgentRunStatus::default(), reason, "spec.x: is wrong", decided());
        assert_eq!(check(&status, "Accepted"), (ConditionStatus::False, "InvalidSpec".into()));
        assert_eq!(check(&status, "Succeeded"), (ConditionStatus::False, "InvalidSpec".into()));
    }

    #[test]
    fn attempts_are_bounded() {
        let mut status = AgentRunStatus::default();
        for _ in 0..100 {
            status = claimed(&status, &claim(), decided());
            status = unclaimed(&status, &ended(AttemptEnd::GuestLost).result, true, decided());
        }
        assert_eq!(status.attempts.len(), MAX_ATTEMPTS);
        assert_eq!((status.attempts[0].number, status.attempts[MAX_ATTEMPTS - 1].number), (1, 100));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_status_is_bounded_whatever_the_run_did(
            byte in any::<u8>(), len in 0_usize..200_000, files in 0_usize..2_000,
                path_len in 1_usize..1_000,
        ) {
            let proven = proven(files, &"\u{3}".repeat(path_len));
            let claimed = claimed(&AgentRunStatus::default(), &proven, decided());
            let file = OutputFile { path: "\u{1}".repeat(path_len), size_bytes: 1,
                sha256: "0".repeat(64) };
            let mut done = ended(AttemptEnd::Exited(0));
            done.outcome.stdout = vec![byte; len];
            done.outcome.stderr = vec![1; len];
            let (destination, protocol) = ("\u{1}".repeat(path_len), "\u{2}".repeat(path_len));
            let denied = DeniedFlow { destination, port: Some(1), protocol, count: 1 };
            done.outcome.network = Some(RunNetwork { allowed: 1, denied: 1,
                top_denied: vec![denied; files] });
            done.outcome.output = Some(OutputStatus {
                files: vec![file; files],
                skipped: vec!["\u{2}".repeat(path_len); files],
                ..OutputStatus::default()
            });
            let status = finished_attempt(&claimed, &done, decided());
            prop_assert!(serde_json::to_vec(&status).unwrap().len() <= MAX_STATUS_BYTES);
            prop_assert!(status.stdout_truncated == Some(true) || status.stdout.unwrap()
                .len() >= len.min(1));
        }
    }
    #[test]
    fn an_incarnation_is_held_in_vain_when_its_attempt_is_closed_or_another_node_has_the_run() {
        let (me, held) = (NodeId::new("id"), Nonce::from_bytes([0; 16]));
        let open = claimed(&AgentRunStatus::default(), &claim(), decided());
        assert!(!is_superseded(None, &held, &me) && !is_superseded(Some(&open), &held, &me));
        let lost = FinishedAttempt::node_lost("n", false);
        let closed = unclaimed(&open, &lost.result, true, decided());
        assert!(is_superseded(Some(&closed), &held, &me));
        let next = Nonce::from_bytes([1; 16]);
        assert!(!is_superseded(Some(&closed), &next, &me), "its claim may be on the way");
        let other = Claim { node_id: NodeId::new("other"), nonce: next.clone(), ..claim() };
        let elsewhere = claimed(&closed, &other, decided());
        assert!(is_superseded(Some(&elsewhere), &held, &me));
        assert!(!is_superseded(Some(&elsewhere), &next, &NodeId::new("other")));
    }
}
