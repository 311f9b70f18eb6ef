//! The controller of `AgentRun`.

mod adrift;
mod attempt_spec;
mod end_metrics;
mod execute;
mod finished;
mod observe;
mod publish;
mod record;
mod references;

use std::{sync::Arc, time::Duration};

use agentvm_core::{
    run::{
        ValidRun, allowed_seconds, is_finished, is_ours, is_superseded, open_attempt, plan,
        validate,
    },
    status::Decided,
};
use agentvm_crds::{AgentRun, AgentRunStatus};
use agentvm_types::RunUid;
use jiff::Timestamp;
use kube::{ResourceExt, runtime::controller::Action};

use super::{Context, Guarded, error::Error};

/// The longest time between two looks, should an event have been missed.
const SLOW: Duration = Duration::from_secs(30);
/// The time for a machine to leave a run.
const SOON: Duration = Duration::from_millis(250);

/// A run that can be carried out, with its object.
#[derive(Debug)]
pub struct Run<'a> {
    pub object: &'a AgentRun,
    pub uid: RunUid,
    pub valid: ValidRun,
}

impl Run<'_> {
    /// Its status in the cache; empty where it has none yet.
    pub fn status(&self) -> AgentRunStatus {
        self.object.status.clone().unwrap_or_default()
    }

    /// The generation and the time of a status that is decided now.
    pub fn decided(&self, cx: &Context) -> Decided {
        cx.decided(self.object)
    }
}

/// NAMESPACE/NAME of the run.
fn full_name(run: &AgentRun) -> String {
    format!("{}/{}", run.namespace().unwrap_or_default(), run.name_any())
}

/// When the object was made.
fn created(run: &AgentRun) -> Timestamp {
    run.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// Observes, plans, executes, publishes. A finished run is only released, and deleted in its time.
pub async fn reconcile(object: Arc<Guarded<AgentRun>>, cx: Arc<Context>) -> Result<Action, Error> {
    let Ok(object) = &object.0 else { return Ok(Action::await_change()) };
    if !is_ours(&object.spec) {
        return Ok(Action::await_change());
    }
    let uid = RunUid::new(object.uid().ok_or(Error::Incomplete("uid"))?);
    if is_finished(object.status.as_ref()) {
        return finished::tidy(object, &uid, &cx).await;
    }
    // A node that was taken for gone may have noted an end that came too late.
    let elsewhere = open_attempt(object.status.as_ref())
        .and_then(|attempt| attempt.node_id.as_deref())
        .is_some_and(|id| id != cx.node_id.as_str());
    if !elsewhere && let Some(end) = finished::noted(&uid, &cx).await? {
        return finished::restore(object, end, &cx).await;
    }
    if let Some(held) = cx.machines.held_by(&uid)
        && is_superseded(object.status.as_ref(), &held, &cx.node_id)
    {
        tracing::warn!(run = %object.name_any(), "others took this node for gone and closed the \
            attempt: its machine goes");
        cx.machines.release(&uid);
        return Ok(Action::requeue(SOON));
    }
    let pool_max = observe::pool_max(object, &cx);
    let allowed = allowed_seconds(&object.spec, object.status.as_ref(), pool_max);
    let valid = match validate(&object.spec, &cx.defaults(), allowed) {
        Ok(valid) => valid,
        Err(why) => return publish::invalid(object, &why, &cx).await,
    };
    let run = Run { object, uid, valid };
    if open_attempt(object.status.as_ref()).is_none()
        && let Some(work) = cx.machines.work_of(&run.uid)
    {
        return adrift::settle(&run, &work, &cx).await;
    }
    let seen = observe::observe(&run, &cx).await?;
    let plan = plan(&run.valid, &seen.facts, cx.clock.now());
    tracing::debug!(run = %object.name_any(), step = ?plan.step, "planned");
    execute::execute(&run, seen, &plan.step, &cx).await?;
    Ok(Action::requeue(plan.wake.map_or(SLOW, |at| cx.wake_in(at)).min(SLOW)))
}
