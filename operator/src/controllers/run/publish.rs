//! Writes of a run: each status once, and one Event at its end.

use std::time::Duration;

use agentvm_core::{
    invalid_spec::InvalidSpec,
    run::{finished, is_finished},
    status::find,
};
use agentvm_crds::{AgentRun, AgentRunStatus, SucceededReason, condition_type};
use kube::{Resource, runtime::controller::Action};

use super::{
    super::{Context, error::Error, publish::publish},
    end_metrics::End,
};
use crate::metrics::pool_id;

/// Writes a status.
pub async fn status(run: &AgentRun, next: AgentRunStatus, cx: &Context) -> Result<(), Error> {
    let end = (!is_finished(run.status.as_ref())).then(|| End::of(&next)).flatten();
    publish(cx, run, next).await?;
    if let Some(end) = end {
        let pool =
            pool_id(run.metadata.namespace.as_deref().unwrap_or_default(), &run.spec.pool_ref.name);
        end.count(&pool, &cx.metrics);
    }
    Ok(())
}

/// The message of the end.
pub fn last_word(status: &AgentRunStatus) -> String {
    find(&status.conditions, condition_type::SUCCEEDED)
        .map(|c| c.message.clone())
        .unwrap_or_default()
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
