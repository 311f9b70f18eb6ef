//! Writes of a run: each status once, and one Event at its end.

use std::time::Duration;

use agentvm_core::{
    invalid_spec::InvalidSpec,
    run::{finished, is_finished},
    status::find,
};
use agentvm_crds::{AgentRun, AgentRunStatus, SucceededReason, condition_type};
use agentvm_types::RunUid;
use kube::{Resource, ResourceExt, runtime::controller::Action};

use super::{
    super::{
        Context,
        error::Error,
        publish::{PublishError, publish},
    },
    end_metrics::End,
    full_name, record,
};
use crate::metrics::pool_id;

/// Writes a status.
pub async fn status(
    run: &AgentRun,
    next: AgentRunStatus,
    cx: &Context,
) -> Result<(), PublishError> {
    let end = (!is_finished(run.status.as_ref())).then(|| End::of(&next)).flatten();
    publish(cx, run, next).await?;
    if let Some(end) = end {
        let pool =
            pool_id(run.metadata.namespace.as_deref().unwrap_or_default(), &run.spec.pool_ref.name);
        end.count(&pool, &cx.metrics);
    }
    Ok(())
}

/// Writes the end of a run that has executed: first into the node's record, then into the status.
/// Then the machine goes, and an Event tells people.
pub async fn end(run: &AgentRun, next: AgentRunStatus, cx: &Context) -> Result<(), Error> {
    let uid = RunUid::new(run.metadata.uid.clone().ok_or(Error::Incomplete("uid"))?);
    let name = full_name(run);
    let folder =
        record::Folder { runs: &cx.runs_folder, run: &uid, name: &name, marker: &cx.marker };
    if let Err(why) = record::note(folder, &next).await {
        // The status is the truth, and it must not wait for this disk.
        tracing::warn!(
            run = %run.name_any(),
            error = &why as &dyn std::error::Error,
            "the end of a run could not be noted on this node; if its status is lost, it may be \
             executed again"
        );
    }
    let (reason, message) = find(&next.conditions, condition_type::SUCCEEDED)
        .map(|c| (c.reason.clone(), c.message.clone()))
        .unwrap_or_default();
    status(run, next, cx).await?;
    // Durable: the machine may go.
    cx.machines.release(&uid);
    ended(run, &reason, &message, cx).await;
    Ok(())
}

/// Writes the Event of its end.
pub async fn ended(run: &AgentRun, reason: &str, message: &str, cx: &Context) {
    let about = run.object_ref(&());
    if reason == SucceededReason::Completed.as_str() {
        cx.recorder.normal(&about, reason, "Run", message).await;
    } else {
        cx.recorder.warning(&about, reason, "Run", message).await;
    }
}

/// Ends a run whose spec cannot be carried out.
pub async fn invalid(run: &AgentRun, why: &InvalidSpec, cx: &Context) -> Result<Action, Error> {
    let old = run.status.clone().unwrap_or_default();
    let reason = SucceededReason::InvalidSpec;
    let decided = cx.decided(run);
    let next = finished(&old, reason, &why.to_string(), decided);
    status(run, next, cx).await?;
    ended(run, reason.as_str(), &why.to_string(), cx).await;
    Ok(Action::requeue(Duration::from_secs(1)))
}
