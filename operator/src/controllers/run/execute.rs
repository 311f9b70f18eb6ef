//! Carries a run's plan out: one step, and its status in the same breath.

use agentvm_core::run::{
    FinishedAttempt, Outcome, Step, ValidRun, accepted_waiting, claimed, finished,
    finished_attempt, open_attempt, unclaimed,
};
use agentvm_crds::{AcceptedReason, AgentRun, ScheduledReason};

use super::{
    observe::Seen,
    order::order,
    publish::{self, wait_is_worth_saying},
};
use crate::controllers::{Context, error::Error};

/// Does the one thing.
pub async fn execute(
    run: &AgentRun,
    uid: &str,
    valid: &ValidRun,
    seen: Seen,
    step: &Step,
    cx: &Context,
) -> Result<(), Error> {
    let old = run.status.clone().unwrap_or_default();
    let (generation, now) = (run.metadata.generation, cx.clock.now());
    match step {
        Step::Nothing => Ok(()),
        Step::Wait { accepted, scheduled, message } => {
            let waits_for_machine = *accepted == AcceptedReason::Valid
                && *scheduled != ScheduledReason::NodeUnavailable;
            let next = accepted_waiting(&old, generation, *accepted, *scheduled, message, now);
            if wait_is_worth_saying(&old, &next, cx.since_written(uid)) {
                cx.note_written(uid);
                publish::status(run, next, cx).await?;
            }
            // A pool grows with its queue, if it may. It wakes the first in line, so a run that waits for anything but a
            // machine must not wake it.
            if let Some(pool) = seen.pool_uid.as_ref().filter(|_| waits_for_machine) {
                cx.machines.wake_pool(pool);
            }
            Ok(())
        }
        Step::Claim => claim(run, uid, valid, &seen, cx).await,
        Step::Drive => {
            drive(run, uid, valid, &seen, cx);
            Ok(())
        }
        Step::Stop(cause) => {
            cx.machines.stop(uid, *cause);
            Ok(())
        }
        Step::Unclaim { counts, result } => {
            publish::status(run, unclaimed(&old, generation, result, *counts, now), cx).await?;
            cx.machines.release(uid);
            Ok(())
        }
        Step::Finish { reason, message } => {
            publish::status(run, finished(&old, generation, *reason, message, now), cx).await?;
            publish::ended(run, reason.as_str(), message, cx).await;
            Ok(())
        }
        Step::FinishAttempt(result) => {
            let done = seen.done.as_deref().cloned();
            let done = done.unwrap_or_else(|| FinishedAttempt {
                result: result.clone(),
                outcome: Outcome::default(),
            });
            let next = finished_attempt(&old, generation, &done, now);
            let message = publish::last_word(&next);
            publish::status(run, next, cx).await?;
            // Durable: the machine may go.
            cx.machines.release(uid);
            publish::ended(run, result.reason().as_str(), &message, cx).await;
            Ok(())
        }
    }
}

/// Takes a machine and writes the claim down; only then is anything sent to the machine.
async fn claim(
    run: &AgentRun,
    uid: &str,
    valid: &ValidRun,
    seen: &Seen,
    cx: &Context,
) -> Result<(), Error> {
    let Some(taken) = seen.pool_uid.as_deref().and_then(|pool| cx.machines.acquire(pool, uid))
    else {
        return Ok(());
    };
    let old = run.status.clone().unwrap_or_default();
    let next = claimed(&old, run.metadata.generation, &taken, cx.clock.now());
    let attempt = open_attempt(Some(&next)).cloned();
    match publish::status(run, next, cx).await {
        Ok(()) => {}
        // Certainly not written: the machine is free again. Anything else may have been written; the next look tells.
        Err(why @ (Error::Conflict | Error::Gone)) => {
            cx.machines.give_back(uid);
            return Err(why);
        }
        Err(why) => return Err(why),
    }
    if let Some(attempt) = attempt {
        cx.machines.drive(order(run, uid, valid, &seen.resolved, &attempt, cx));
    }
    Ok(())
}

/// The operator was restarted, or never heard that the claim was written.
fn drive(run: &AgentRun, uid: &str, valid: &ValidRun, seen: &Seen, cx: &Context) {
    let Some(attempt) = open_attempt(run.status.as_ref()) else { return };
    let mut order = order(run, uid, valid, &seen.resolved, attempt, cx);
    // What is gone meanwhile matters only if it was not started yet; a program that runs has it already.
    order.missing = seen.facts.missing.as_ref().map(|missing| missing.message.clone());
    cx.machines.drive(order);
}
