//! The next step of a run, from the facts about it. Decides; never acts.
//!
//! ```text
//! waiting --Claim--> claimed -Execute-> executing -> ended --publish--> finished --Release--> done
//!    |                  |                  |          |
//!    |                  +-- not started: Unclaim -----+-- lost, retries left: Unclaim (counts)
//!    +-- cancelled, queue timeout, invalid: publish --^
//! ```

use std::sync::Arc;

use agentvm_crds::{AcceptedReason, ScheduledReason, SucceededReason};
use jiff::{Timestamp, ToSpan};

use super::{
    AttemptEnd, AttemptResult, AttemptState, FinishedAttempt, PoolState, RunFacts, ValidRun,
    queue::in_line,
};

/// Seconds between two looks for a missing Secret or ConfigMap.
const REFERENCE_LOOK: i64 = 3;

/// The most machines in a row that may fail to start a run. Each costs its pool a reset or a fresh
/// machine, and a run that finds a fault in all of them finds it in the next one too.
const MAX_UNSTARTED: u32 = 10;

/// Why an attempt is stopped from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    Cancelled,
    Suspended,
    Evicted,
    /// The node's disk is nearly full, and the run's machine takes most of it.
    DiskFull,
    /// This node could not renew its Lease: others will take it for gone.
    NodeLost,
}

/// A run that waits: for its references, or for a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub accepted: AcceptedReason,
    pub scheduled: ScheduledReason,
    pub message: String,
}

impl Wait {
    /// Only a run that waits for nothing but a machine may make its pool grow: a pool wakes the
    /// first run in line, and another one must not wake the pool.
    pub fn for_machine(&self) -> bool {
        let other = [ScheduledReason::NodeUnavailable, ScheduledReason::Suspended];
        self.accepted == AcceptedReason::Valid && !other.contains(&self.scheduled)
    }
}

/// The one thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Nothing,
    /// Write that it waits, and for which thing.
    Wait(Wait),
    /// Take a machine, if there is still one, and write the claim down.
    Claim,
    /// Make the claimed machine execute it, or find out how far it is.
    Execute,
    /// Stop the attempt; its end will be seen later.
    Stop(StopCause),
    /// Take the claim back: nothing was executed (`counts` = false), or it is tried again.
    Unclaim {
        counts: bool,
        done: Arc<FinishedAttempt>,
    },
    /// Write the end of the run down. It has no attempt.
    Finish {
        reason: SucceededReason,
        message: String,
    },
    /// Write the end of the attempt down, and with it the end of the run.
    FinishAttempt(Arc<FinishedAttempt>),
}

/// The step, and the latest time of the next look.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub step: Step,
    pub wake: Option<Timestamp>,
}

/// Decides; never acts.
pub fn plan(run: &ValidRun, facts: &RunFacts, now: Timestamp) -> Plan {
    let step = match &facts.attempt {
        AttemptState::None => return plan_waiting(run, facts, now),
        AttemptState::Claimed if facts.draining => Step::Nothing,
        AttemptState::Claimed => Step::Execute,
        AttemptState::Executing if run.cancelled => Step::Stop(StopCause::Cancelled),
        AttemptState::Executing if run.suspended => Step::Stop(StopCause::Suspended),
        AttemptState::Executing if facts.evicting => Step::Stop(StopCause::Evicted),
        AttemptState::Elsewhere | AttemptState::Executing => Step::Nothing,
        AttemptState::Ended(done) => plan_ended(run, facts, done),
    };
    Plan { step, wake: None }
}

fn plan_ended(run: &ValidRun, facts: &RunFacts, done: &Arc<FinishedAttempt>) -> Step {
    let (result, done) = (&done.result, done.clone());
    if result.end == AttemptEnd::Suspended {
        if run.cancelled {
            // It was told to stop for the first cause; the second one decides.
            let result = AttemptResult { end: AttemptEnd::Cancelled, ..result.clone() };
            return Step::FinishAttempt(Arc::new(FinishedAttempt { result, ..(*done).clone() }));
        }
        return Step::Unclaim { counts: true, done };
    }
    if run.cancelled || !result.is_infrastructure_failure() {
        return Step::FinishAttempt(done);
    }
    if is_tried_again(run, facts.attempts, facts.unstarted, &done) {
        return Step::Unclaim { counts: result.started, done };
    }
    Step::FinishAttempt(done)
}

/// Whether another attempt follows the last of so many. One that was never started does not count,
/// but `unstarted` claims in a row before this one do.
pub(super) fn is_tried_again(
    run: &ValidRun,
    attempts: u32,
    unstarted: u32,
    done: &FinishedAttempt,
) -> bool {
    let result = &done.result;
    let left = if result.started {
        attempts <= run.backoff_limit
    } else {
        unstarted.saturating_add(1) < MAX_UNSTARTED
    };
    left && result.is_infrastructure_failure()
}

fn plan_waiting(run: &ValidRun, facts: &RunFacts, now: Timestamp) -> Plan {
    let done =
        |reason, message: String| Plan { step: Step::Finish { reason, message }, wake: None };
    if run.cancelled {
        return done(SucceededReason::Cancelled, "cancelled before it was started".to_owned());
    }
    if run.suspended {
        let message = "spec.suspend is true; the run waits until it is false".to_owned();
        let (accepted, scheduled) = (AcceptedReason::Valid, ScheduledReason::Suspended);
        return Plan { step: Step::Wait(Wait { accepted, scheduled, message }), wake: None };
    }
    let deadline = facts
        .waits_since
        .checked_add(i64::from(run.queue_timeout_seconds).seconds())
        .unwrap_or(Timestamp::MAX);
    // Content that no machine takes is a mistake in the run: waiting does not mend it.
    if let Some(refused) =
        facts.missing.as_ref().filter(|m| m.reason == AcceptedReason::InvalidSpec)
    {
        return done(SucceededReason::InvalidSpec, refused.message.clone());
    }
    let wait = waiting_for(run, facts);
    if deadline <= now {
        let why = wait.map_or_else(|| "no operator claimed it".to_owned(), |wait| wait.message);
        let message = format!("not started within {} s: {why}", run.queue_timeout_seconds);
        return done(SucceededReason::QueueTimeout, message);
    }
    let step = match wait {
        None => Step::Claim,
        Some(wait) => Step::Wait(wait),
    };
    // No event says that a Secret or ConfigMap has appeared.
    let soon = facts.missing.as_ref().and_then(|_| now.checked_add(REFERENCE_LOOK.seconds()).ok());
    Plan { step, wake: Some(soon.map_or(deadline, |soon| soon.min(deadline))) }
}

/// The thing that the run waits for, with numbers; `None` when it is its turn.
fn waiting_for(run: &ValidRun, facts: &RunFacts) -> Option<Wait> {
    use {AcceptedReason as A, ScheduledReason as S};
    let wait = |accepted, scheduled, message| Some(Wait { accepted, scheduled, message });
    let PoolState::Present { free, total, trouble, .. } = &facts.pool else {
        let pool = &run.pool;
        let message =
            format!("spec.poolRef.name: there is no AgentVMPool {pool:?} in this namespace");
        return wait(A::PoolMissing, S::PoolDegraded, message);
    };
    if let Some(missing) = &facts.missing {
        return wait(missing.reason, S::WaitingForMachine, missing.message.clone());
    }
    if facts.draining {
        let message =
            "the operator is stopping, or could not renew its Lease; the run waits".to_owned();
        return wait(A::Valid, S::NodeUnavailable, message);
    }
    if let Some(why) = &facts.refused {
        return wait(A::Valid, S::NodeUnavailable, why.clone());
    }
    if facts.ahead < *free {
        return None;
    }
    match trouble {
        Some(trouble) if *total == 0 => {
            let message = format!("pool {:?} has no machines: {trouble}", run.pool);
            wait(A::Valid, S::PoolDegraded, message)
        }
        _ => wait(A::Valid, S::WaitingForMachine, in_line(facts.ahead, &facts.pool)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        defaults::Defaults,
        run::{AttemptEnd, AttemptResult, Fetched, MissingRef, Outcome, validate},
    };
    use agentvm_crds::OutputStatus;

    fn run(extra: &serde_json::Value) -> ValidRun {
        let mut base = serde_json::json!({"command": ["true"], "queueTimeoutSeconds": 100});
        for (key, value) in extra.as_object().unwrap() {
            base[key] = value.clone();
        }
        validate(&serde_json::from_value(base).unwrap(), &Defaults::default(), None).unwrap()
    }

    fn facts(attempt: AttemptState) -> RunFacts {
        RunFacts {
            waits_since: Timestamp::UNIX_EPOCH,
            attempts: 1,
            unstarted: 0,
            pool: PoolState::Present { free: 0, total: 4, max: 4, trouble: None },
            missing: None,
            ahead: 3,
            attempt,
            draining: false,
            evicting: false,
            refused: None,
        }
    }

    #[test]
    fn a_node_without_disk_space_takes_no_run_and_says_why() {
        let plain = run(&serde_json::json!({}));
        let free = PoolState::Present { free: 4, total: 4, max: 4, trouble: None };
        let open = RunFacts { pool: free, ..facts(AttemptState::None) };
        assert_eq!(step(&plain, &open), Step::Claim);
        let refused = RunFacts { refused: Some("9 MiB are free".to_owned()), ..open };
        let Step::Wait(wait) = step(&plain, &refused) else { panic!("it waits") };
        assert_eq!(wait.message, "9 MiB are free");
        assert!(!wait.for_machine(), "it does not make the pool grow");
        let claimed = RunFacts { attempt: AttemptState::Claimed, ..refused };
        assert_eq!(step(&plain, &claimed), Step::Execute, "what was claimed goes on");
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn step(run: &ValidRun, facts: &RunFacts) -> Step {
        plan(run, facts, at(1)).step
    }

    fn ended(end: AttemptEnd, started: bool) -> AttemptState {
        let result = AttemptResult { end, started, message: String::new() };
        let kept = Fetched::Kept(OutputStatus::default());
        AttemptState::Ended(Arc::new(FinishedAttempt::concluded(result, Outcome::default(), kept)))
    }

    #[test]
    fn a_waiting_run_says_what_it_waits_for_with_numbers() {
        let plain = run(&serde_json::json!({}));
        let Step::Wait(Wait { scheduled, message, .. }) = step(&plain, &facts(AttemptState::None))
        else {
            panic!("waits")
        };
        assert_eq!(scheduled, ScheduledReason::WaitingForMachine);
        assert_eq!(message, "0 of 4 machines free (max 4), 3 runs before this one");
        let missing = RunFacts { pool: PoolState::Missing, ..facts(AttemptState::None) };
        let Step::Wait(Wait { accepted, message, .. }) = step(&plain, &missing) else {
            panic!("waits")
        };
        assert_eq!(accepted, AcceptedReason::PoolMissing);
        assert!(message.starts_with("spec.poolRef.name"));
    }

    #[test]
    fn it_is_claimed_when_as_many_machines_are_free_as_runs_are_before_it() {
        let plain = run(&serde_json::json!({}));
        let with_free = |free| RunFacts {
            pool: PoolState::Present { free, total: 4, max: 4, trouble: None },
            ..facts(AttemptState::None)
        };
        assert!(matches!(step(&plain, &with_free(3)), Step::Wait(_)));
        assert_eq!(step(&plain, &with_free(4)), Step::Claim);
        assert!(matches!(
            step(&plain, &RunFacts { draining: true, ..with_free(4) }),
            Step::Wait(_)
        ));
    }

    #[test]
    fn waiting_ends_by_its_own_deadline_or_by_cancelling() {
        let plain = run(&serde_json::json!({}));
        let late = plan(&plain, &facts(AttemptState::None), at(100));
        assert!(matches!(late.step, Step::Finish { reason: SucceededReason::QueueTimeout, .. }));
        assert_eq!(plan(&plain, &facts(AttemptState::None), at(99)).wake, Some(at(100)));
        let cancelled = run(&serde_json::json!({"desiredState": "Cancelled"}));
        let step = step(&cancelled, &facts(AttemptState::None));
        assert!(matches!(step, Step::Finish { reason: SucceededReason::Cancelled, .. }));
    }

    #[test]
    fn a_suspended_run_waits_without_a_deadline_and_is_tried_again_after_it_ran() {
        let suspended = run(&serde_json::json!({"suspend": true}));
        let late = plan(&suspended, &facts(AttemptState::None), at(100_000));
        assert!(matches!(&late.step, Step::Wait(wait)
            if wait.scheduled == ScheduledReason::Suspended && !wait.for_machine()));
        assert_eq!(late.wake, None);
        let executes = step(&suspended, &facts(AttemptState::Executing));
        assert_eq!(executes, Step::Stop(StopCause::Suspended));
        let stopped = facts(ended(AttemptEnd::Suspended, true));
        assert!(matches!(step(&suspended, &stopped), Step::Unclaim { counts: true, .. }));
        let resumed = run(&serde_json::json!({}));
        assert!(matches!(step(&resumed, &stopped), Step::Unclaim { counts: true, .. }));
        let by_itself = facts(ended(AttemptEnd::Exited(0), true));
        assert!(matches!(step(&suspended, &by_itself), Step::FinishAttempt(_)));
        let cancelled = run(&serde_json::json!({"suspend": true, "desiredState": "Cancelled"}));
        let Step::FinishAttempt(done) = step(&cancelled, &stopped) else { panic!("ends") };
        assert_eq!(done.result.end, AttemptEnd::Cancelled);
    }

    #[test]
    fn only_failures_of_the_infrastructure_are_tried_again_and_only_as_often_as_allowed() {
        let plain = run(&serde_json::json!({}));
        let retried = run(&serde_json::json!({"backoffLimit": 1}));
        let lost = || facts(ended(AttemptEnd::GuestLost, true));
        assert!(matches!(
            step(&retried, &facts(ended(AttemptEnd::OutputLost, true))),
            Step::Unclaim { counts: true, .. }
        ));
        assert!(matches!(step(&plain, &lost()), Step::FinishAttempt(_)));
        assert!(matches!(step(&retried, &lost()), Step::Unclaim { counts: true, .. }));
        assert!(matches!(
            step(&retried, &RunFacts { attempts: 2, ..lost() }),
            Step::FinishAttempt(_)
        ));
        assert!(matches!(
            step(&retried, &facts(ended(AttemptEnd::Exited(1), true))),
            Step::FinishAttempt(_)
        ));
        assert!(matches!(
            step(&retried, &facts(ended(AttemptEnd::DeadlineExceeded, true))),
            Step::FinishAttempt(_)
        ));
    }

    #[test]
    fn what_was_never_started_is_given_back_and_does_not_count() {
        let plain = run(&serde_json::json!({}));
        let lost = |unstarted| RunFacts { unstarted, ..facts(ended(AttemptEnd::GuestLost, false)) };
        for unstarted in 0..MAX_UNSTARTED - 1 {
            let step = step(&plain, &lost(unstarted));
            assert!(matches!(step, Step::Unclaim { counts: false, .. }));
        }
        let step = step(&plain, &lost(MAX_UNSTARTED - 1));
        assert!(matches!(step, Step::FinishAttempt(_)), "it is not tried for ever");
    }

    #[test]
    fn what_an_agent_refuses_is_not_tried_again() {
        let retried = run(&serde_json::json!({"backoffLimit": 10}));
        for started in [true, false] {
            let step = step(&retried, &facts(ended(AttemptEnd::Refused, started)));
            assert!(matches!(step, Step::FinishAttempt(_)), "started: {started}");
        }
    }

    #[test]
    fn content_that_no_machine_takes_ends_the_run_before_a_claim() {
        let (reason, message) = (AcceptedReason::InvalidSpec, "spec.env[0].valueFrom".to_owned());
        let missing = Some(MissingRef { reason, message: message.clone() });
        let pool = PoolState::Present { free: 9, total: 9, max: 9, trouble: None };
        let facts = RunFacts { pool, missing, ..facts(AttemptState::None) };
        let reason = SucceededReason::InvalidSpec;
        assert_eq!(step(&run(&serde_json::json!({})), &facts), Step::Finish { reason, message });
    }

    #[test]
    fn a_claim_that_nobody_drives_is_driven_and_a_foreign_one_is_left_alone() {
        let plain = run(&serde_json::json!({}));
        assert_eq!(step(&plain, &facts(AttemptState::Claimed)), Step::Execute);
        assert_eq!(step(&plain, &facts(AttemptState::Elsewhere)), Step::Nothing);
        let active = facts(AttemptState::Executing);
        assert_eq!(step(&plain, &active), Step::Nothing);
        let cancelled = run(&serde_json::json!({"desiredState": "Cancelled"}));
        assert_eq!(step(&cancelled, &active), Step::Stop(StopCause::Cancelled));
        let draining = RunFacts { draining: true, ..active };
        assert_eq!(step(&plain, &draining), Step::Nothing, "it may end by itself");
        assert_eq!(
            step(&plain, &RunFacts { evicting: true, ..draining }),
            Step::Stop(StopCause::Evicted)
        );
    }

    #[test]
    fn a_missing_reference_is_looked_for_again_soon_and_within_the_time_to_wait() {
        let plain = run(&serde_json::json!({}));
        let missing = MissingRef { reason: AcceptedReason::SecretMissing, message: String::new() };
        let facts = RunFacts { missing: Some(missing), ..facts(AttemptState::None) };
        assert_eq!(plan(&plain, &facts, at(1)).wake, Some(at(1 + REFERENCE_LOOK)));
        assert_eq!(plan(&plain, &facts, at(99)).wake, Some(at(100)));
        assert!(matches!(
            plan(&plain, &facts, at(100)).step,
            Step::Finish { reason: SucceededReason::QueueTimeout, .. }
        ));
    }
}
