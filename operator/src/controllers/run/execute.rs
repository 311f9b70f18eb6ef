//! Carries a run's plan out: one step, and the status that goes with it.

use agentvm_core::run::{
    FinishedAttempt, Step, StopCause, Wait, accepted_waiting, claimed, finished, finished_attempt,
    open_attempt, unclaimed, wait_is_worth_a_write,
};

use agentvm_crds::{AcceptedReason, ScheduledReason};

use super::{Run, attempt_spec::attempt_spec, full_name, observe::Observation, publish, record};
use crate::{
    api::WriteError,
    controllers::{Context, error::Error, publish::PublishError},
};

/// Does the one thing.
pub async fn execute(
    run: &Run<'_>,
    seen: Observation,
    step: &Step,
    cx: &Context,
) -> Result<(), Error> {
    match step {
        Step::Nothing => Ok(()),
        Step::Wait(wait) => say_wait(run, &seen, wait, cx).await,
        Step::Claim => claim(run, &seen, cx).await,
        Step::Execute => {
            execute_claimed(run, &seen, cx);
            Ok(())
        }
        Step::Stop(cause) => {
            cx.machines.stop(&run.uid, *cause);
            Ok(())
        }
        Step::Unclaim { counts, done } => {
            let next = unclaimed(&run.status(), &done.result, *counts, run.decided(cx));
            publish::status(run.object, next, cx).await?;
            cx.machines.release(&run.uid);
            Ok(())
        }
        Step::Finish { reason, message } => {
            let next = finished(&run.status(), *reason, message, run.decided(cx));
            publish::status(run.object, next, cx).await?;
            // It may hold a machine whose claim was never confirmed.
            cx.machines.release(&run.uid);
            publish::ended(run.object, reason.as_str(), message, cx).await;
            Ok(())
        }
        Step::FinishAttempt(done) => finish(run, done, cx).await,
    }
}

/// Says that the run waits, and makes its pool look at its queue: a pool may grow with it.
async fn say_wait(
    run: &Run<'_>,
    seen: &Observation,
    wait: &Wait,
    cx: &Context,
) -> Result<(), Error> {
    let (old, uid) = (run.status(), run.uid.as_str());
    let next = accepted_waiting(&old, wait, run.decided(cx));
    if wait_is_worth_a_write(&old, &next, cx.writes.since(uid)) {
        cx.writes.note(uid);
        publish::status(run.object, next, cx).await?;
    }
    if let Some(pool) = seen.pool_uid.as_ref().filter(|_| wait.for_machine()) {
        cx.machines.wake_pool(pool);
    }
    Ok(())
}

/// Takes a machine and writes the claim down; only then is anything sent to the machine. A node
/// whose disk fails takes none: each attempt there would cost a machine.
async fn claim(run: &Run<'_>, seen: &Observation, cx: &Context) -> Result<(), Error> {
    let uid = &run.uid;
    let (runs, name) = (&cx.runs_folder, full_name(run.object));
    let folder = record::Folder { runs, run: uid, name: &name, marker: &cx.marker };
    if let Err(why) = folder.make().await {
        let message = format!("this node cannot keep what the run leaves: {why}");
        let wait = Wait {
            accepted: AcceptedReason::Valid,
            scheduled: ScheduledReason::NodeUnavailable,
            message,
        };
        say_wait(run, seen, &wait, cx).await?;
        return Err(Error::Folder(why));
    }
    let Some(taken) = seen.pool_uid.as_ref().and_then(|pool| cx.machines.acquire(pool, uid)) else {
        return Ok(());
    };
    let next = claimed(&run.status(), &taken, run.decided(cx));
    let attempt = open_attempt(Some(&next)).cloned();
    if let Err(why) = publish::status(run.object, next, cx).await {
        match &why {
            PublishError::Write(WriteError::NotWritten(proof)) => {
                cx.machines.give_back(uid, *proof);
            }
            // The run keeps the machine, and the next look finds out.
            PublishError::Write(WriteError::InDoubt(_)) => cx.machines.doubt(uid),
            PublishError::NoNamespace => {}
        }
        return Err(why.into());
    }
    if let Some(attempt) = attempt {
        cx.machines.execute(attempt_spec(run, &seen.resolved, &attempt, cx));
    }
    Ok(())
}

/// The operator was restarted, or never heard that the claim was written.
fn execute_claimed(run: &Run<'_>, seen: &Observation, cx: &Context) {
    let Some(attempt) = open_attempt(run.object.status.as_ref()) else { return };
    let mut spec = attempt_spec(run, &seen.resolved, attempt, cx);
    // A reference that has gone meanwhile matters only if the program was not started yet: a
    // program that runs has its content already.
    spec.missing = seen.facts.missing.as_ref().map(|missing| missing.message.clone());
    // A run that was cancelled or suspended meanwhile is stopped if its program runs, and is not
    // started first.
    let suspended = run.valid.suspended.then_some(StopCause::Suspended);
    spec.stop = if run.valid.cancelled { Some(StopCause::Cancelled) } else { suspended };
    cx.machines.execute(spec);
}

async fn finish(run: &Run<'_>, done: &FinishedAttempt, cx: &Context) -> Result<(), Error> {
    publish::end(run.object, finished_attempt(&run.status(), done, run.decided(cx)), cx).await
}
