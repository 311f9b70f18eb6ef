//! What to do next about a run, from what is seen of it. Decides; never acts.
//!
//! ```text
//! waiting --Claim--> claimed --Drive--> active --> ended --publish--> finished --Release--> done
//!    |                  |                  |          |
//!    |                  +-- never started: Unclaim ---+-- lost, retries left: Unclaim (counts as an attempt)
//!    +-- cancelled, queue timeout, invalid: publish --^
//! ```

use agentvm_crds::{AcceptedReason, ScheduledReason, SucceededReason};
use jiff::{Timestamp, ToSpan};

use super::{AttemptResult, QueuePlace, ValidRun};

/// Seconds between two looks for what a run refers to and isn't there.
const REFERENCE_LOOK: i64 = 3;

/// Something that a run refers to and that isn't there (yet).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRef {
    pub reason: AcceptedReason,
    pub message: String,
}

/// What is seen of the run's pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolSeen {
    Missing,
    /// `trouble` is the pool's own reason for having no machines, where it has one.
    Present {
        free: u32,
        total: u32,
        max: u32,
        trouble: Option<String>,
    },
}

/// What is seen of the attempt that the status says is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptSeen {
    /// The status has no open attempt.
    None,
    /// Another node has claimed it.
    Elsewhere,
    /// Claimed by this node, and nobody drives it: just claimed, or the operator was restarted.
    Undriven,
    /// Being driven.
    Active,
    Ended(AttemptResult),
}

/// What is seen of a run.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When it began to wait: its creation, or the end of its last attempt.
    pub waits_since: Timestamp,
    /// Attempts that the status has, the open one included.
    pub attempts: u32,
    pub pool: PoolSeen,
    pub missing: Option<MissingRef>,
    pub queue: QueuePlace,
    pub attempt: AttemptSeen,
    /// The operator is told to stop: it claims nothing any more.
    pub draining: bool,
    /// Its time to stop is nearly over: what executes is ended.
    pub evicting: bool,
}

/// Why an attempt is stopped from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    Cancelled,
    Evicted,
}

/// The one thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Say that it waits, and for what.
    Wait { accepted: AcceptedReason, scheduled: ScheduledReason, message: String },
    /// Take a machine, if there is still one, and write the claim down.
    Claim,
    /// Bring the claimed machine to execute it, or find out how far it is.
    Drive,
    /// Stop what is under way; the attempt will end.
    Stop(StopCause),
    /// Take the claim back: nothing was executed (`counts` = false), or it is tried again.
    Unclaim { counts: bool, result: AttemptResult },
    /// Write the end down.
    Finish { reason: SucceededReason, message: String },
    /// Write the end of the attempt down.
    FinishAttempt(AttemptResult),
}

/// What to do, and when to look again at the latest.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub step: Step,
    pub wake: Option<Timestamp>,
}

/// Decides; never acts.
pub fn plan(run: &ValidRun, seen: &Seen, now: Timestamp) -> Plan {
    let step = match &seen.attempt {
        AttemptSeen::None => return plan_waiting(run, seen, now),
        AttemptSeen::Undriven if seen.draining => Step::Nothing,
        AttemptSeen::Undriven => Step::Drive,
        AttemptSeen::Active if run.cancelled => Step::Stop(StopCause::Cancelled),
        AttemptSeen::Active if seen.evicting => Step::Stop(StopCause::Evicted),
        AttemptSeen::Elsewhere | AttemptSeen::Active => Step::Nothing,
        AttemptSeen::Ended(result) => plan_ended(run, seen, result),
    };
    Plan { step, wake: None }
}

fn plan_ended(run: &ValidRun, seen: &Seen, result: &AttemptResult) -> Step {
    let lost = result.is_infrastructure_failure();
    if !result.started && lost && !run.cancelled {
        return Step::Unclaim { counts: false, result: result.clone() };
    }
    if lost && !run.cancelled && seen.attempts <= run.backoff_limit {
        return Step::Unclaim { counts: true, result: result.clone() };
    }
    Step::FinishAttempt(result.clone())
}

fn plan_waiting(run: &ValidRun, seen: &Seen, now: Timestamp) -> Plan {
    let done =
        |reason, message: String| Plan { step: Step::Finish { reason, message }, wake: None };
    if run.cancelled {
        return done(SucceededReason::Cancelled, "cancelled before it was started".to_owned());
    }
    let deadline = seen
        .waits_since
        .checked_add(i64::from(run.queue_timeout_seconds).seconds())
        .unwrap_or(Timestamp::MAX);
    let wait = waiting_for(run, seen);
    if deadline <= now {
        let why =
            wait.map_or_else(|| "no operator claimed it".to_owned(), |(_, _, message)| message);
        let message = format!("not started within {} s: {why}", run.queue_timeout_seconds);
        return done(SucceededReason::QueueTimeout, message);
    }
    let step = match wait {
        None => Step::Claim,
        Some((accepted, scheduled, message)) => Step::Wait { accepted, scheduled, message },
    };
    // Nobody tells when a Secret or ConfigMap appears.
    let soon = seen.missing.as_ref().and_then(|_| now.checked_add(REFERENCE_LOOK.seconds()).ok());
    Plan { step, wake: Some(soon.map_or(deadline, |soon| soon.min(deadline))) }
}

/// What the run waits for, with numbers; `None` when it is its turn.
fn waiting_for(run: &ValidRun, seen: &Seen) -> Option<(AcceptedReason, ScheduledReason, String)> {
    use {AcceptedReason as A, ScheduledReason as S};
    let (free, total, max, trouble) = match &seen.pool {
        PoolSeen::Missing => {
            let message = format!(
                "spec.poolRef.name: there is no AgentVMPool {:?} in this namespace",
                run.pool
            );
            return Some((A::PoolMissing, S::PoolDegraded, message));
        }
        PoolSeen::Present { free, total, max, trouble } => (*free, *total, *max, trouble),
    };
    if let Some(missing) = &seen.missing {
        return Some((missing.reason, S::WaitingForMachine, missing.message.clone()));
    }
    if seen.draining {
        return Some((
            A::Valid,
            S::NodeUnavailable,
            "the operator is stopping; the run waits for the next one".to_owned(),
        ));
    }
    if seen.queue.ahead < free {
        return None;
    }
    let ahead = seen.queue.ahead;
    let numbers =
        format!("{free} of {total} machines free (max {max}), {ahead} runs before this one");
    match trouble {
        Some(trouble) if total == 0 => Some((
            A::Valid,
            S::PoolDegraded,
            format!("pool {:?} has no machines: {trouble}", run.pool),
        )),
        _ => Some((A::Valid, S::WaitingForMachine, numbers)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        defaults::Defaults,
        run::{AttemptEnd, validate},
    };

    fn run(extra: &serde_json::Value) -> ValidRun {
        let mut base = serde_json::json!({"command": ["true"], "queueTimeoutSeconds": 100});
        for (key, value) in extra.as_object().unwrap() {
            base[key] = value.clone();
        }
        validate(&serde_json::from_value(base).unwrap(), &Defaults::default(), None).unwrap()
    }

    fn seen(attempt: AttemptSeen) -> Seen {
        Seen {
            waits_since: Timestamp::UNIX_EPOCH,
            attempts: 1,
            pool: PoolSeen::Present { free: 0, total: 4, max: 4, trouble: None },
            missing: None,
            queue: QueuePlace { ahead: 3, waiting: 4 },
            attempt,
            draining: false,
            evicting: false,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn step(run: &ValidRun, seen: &Seen) -> Step {
        plan(run, seen, at(1)).step
    }

    fn ended(end: AttemptEnd, started: bool) -> AttemptSeen {
        AttemptSeen::Ended(AttemptResult { end, started, message: String::new() })
    }

    #[test]
    fn a_waiting_run_says_what_it_waits_for_with_numbers() {
        let plain = run(&serde_json::json!({}));
        let Step::Wait { scheduled, message, .. } = step(&plain, &seen(AttemptSeen::None)) else {
            panic!("waits")
        };
        assert_eq!(scheduled, ScheduledReason::WaitingForMachine);
        assert_eq!(message, "0 of 4 machines free (max 4), 3 runs before this one");
        let missing = Seen { pool: PoolSeen::Missing, ..seen(AttemptSeen::None) };
        let Step::Wait { accepted, message, .. } = step(&plain, &missing) else { panic!("waits") };
        assert_eq!(accepted, AcceptedReason::PoolMissing);
        assert!(message.starts_with("spec.poolRef.name"));
    }

    #[test]
    fn it_is_claimed_when_as_many_machines_are_free_as_runs_are_before_it() {
        let plain = run(&serde_json::json!({}));
        let with_free = |free| Seen {
            pool: PoolSeen::Present { free, total: 4, max: 4, trouble: None },
            ..seen(AttemptSeen::None)
        };
        assert!(matches!(step(&plain, &with_free(3)), Step::Wait { .. }));
        assert_eq!(step(&plain, &with_free(4)), Step::Claim);
        assert!(matches!(
            step(&plain, &Seen { draining: true, ..with_free(4) }),
            Step::Wait { .. }
        ));
    }

    #[test]
    fn waiting_ends_by_its_own_deadline_or_by_cancelling() {
        let plain = run(&serde_json::json!({}));
        let late = plan(&plain, &seen(AttemptSeen::None), at(100));
        assert!(matches!(late.step, Step::Finish { reason: SucceededReason::QueueTimeout, .. }));
        assert_eq!(plan(&plain, &seen(AttemptSeen::None), at(99)).wake, Some(at(100)));
        let cancelled = run(&serde_json::json!({"desiredState": "Cancelled"}));
        let step = step(&cancelled, &seen(AttemptSeen::None));
        assert!(matches!(step, Step::Finish { reason: SucceededReason::Cancelled, .. }));
    }

    #[test]
    fn only_failures_of_the_infrastructure_are_tried_again_and_only_as_often_as_allowed() {
        let plain = run(&serde_json::json!({}));
        let retried = run(&serde_json::json!({"backoffLimit": 1}));
        let lost = || seen(ended(AttemptEnd::GuestLost, true));
        assert!(matches!(step(&plain, &lost()), Step::FinishAttempt(_)));
        assert!(matches!(step(&retried, &lost()), Step::Unclaim { counts: true, .. }));
        assert!(matches!(step(&retried, &Seen { attempts: 2, ..lost() }), Step::FinishAttempt(_)));
        assert!(matches!(
            step(&retried, &seen(ended(AttemptEnd::Exited(1), true))),
            Step::FinishAttempt(_)
        ));
        assert!(matches!(
            step(&retried, &seen(ended(AttemptEnd::DeadlineExceeded, true))),
            Step::FinishAttempt(_)
        ));
    }

    #[test]
    fn what_was_never_started_is_given_back_and_does_not_count() {
        let plain = run(&serde_json::json!({}));
        let step = step(&plain, &seen(ended(AttemptEnd::GuestLost, false)));
        assert!(matches!(step, Step::Unclaim { counts: false, .. }));
    }

    #[test]
    fn a_claim_that_nobody_drives_is_driven_and_a_foreign_one_is_left_alone() {
        let plain = run(&serde_json::json!({}));
        assert_eq!(step(&plain, &seen(AttemptSeen::Undriven)), Step::Drive);
        assert_eq!(step(&plain, &seen(AttemptSeen::Elsewhere)), Step::Nothing);
        let active = seen(AttemptSeen::Active);
        assert_eq!(step(&plain, &active), Step::Nothing);
        let cancelled = run(&serde_json::json!({"desiredState": "Cancelled"}));
        assert_eq!(step(&cancelled, &active), Step::Stop(StopCause::Cancelled));
        let draining = Seen { draining: true, ..active };
        assert_eq!(step(&plain, &draining), Step::Nothing, "it may end by itself");
        assert_eq!(
            step(&plain, &Seen { evicting: true, ..draining }),
            Step::Stop(StopCause::Evicted)
        );
    }

    #[test]
    fn a_missing_reference_is_looked_for_again_soon_and_within_the_time_to_wait() {
        let plain = run(&serde_json::json!({}));
        let missing = MissingRef { reason: AcceptedReason::SecretMissing, message: String::new() };
        let seen = Seen { missing: Some(missing), ..seen(AttemptSeen::None) };
        assert_eq!(plan(&plain, &seen, at(1)).wake, Some(at(1 + REFERENCE_LOOK)));
        assert_eq!(plan(&plain, &seen, at(99)).wake, Some(at(100)));
        assert!(matches!(
            plan(&plain, &seen, at(100)).step,
            Step::Finish { reason: SucceededReason::QueueTimeout, .. }
        ));
    }
}
