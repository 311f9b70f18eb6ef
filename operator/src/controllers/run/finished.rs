//! A finished run: its machine is released, and its object is deleted when its time is over.

use std::time::Duration;

use agentvm_core::run::{Expiry, expiry};
use agentvm_crds::{AgentRun, AgentRunStatus};
use agentvm_types::RunUid;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Preconditions},
    runtime::controller::Action,
};

use super::{publish, record};
use crate::{
    controllers::{Context, error::Error},
    metrics::{Kind, Verb},
};

/// The first look after a status was restored.
const AGAIN: Duration = Duration::from_secs(1);

/// Releases the machine, again should the first release have been missed, and deletes the object
/// when it is due. Files that the run left are swept with the object.
pub async fn tidy(run: &AgentRun, uid: &RunUid, cx: &Context) -> Result<Action, Error> {
    cx.machines.release(uid);
    match expiry(&run.spec, run.status.as_ref(), cx.clock.now()) {
        Expiry::Never => Ok(Action::await_change()),
        Expiry::Look(at) => Ok(Action::requeue(cx.wake_in(at))),
        Expiry::Due => delete(run, uid, cx).await,
    }
}

/// The end of this run, as this node noted it.
pub async fn noted(uid: &RunUid, cx: &Context) -> Result<Option<AgentRunStatus>, Error> {
    record::noted(&cx.runs_folder, uid).await.map_err(Error::Record)
}

/// The status of a run that has ended here says something else: it gets its end again, and the run
/// is not executed again.
pub async fn restore(
    run: &AgentRun,
    mut end: AgentRunStatus,
    cx: &Context,
) -> Result<Action, Error> {
    tracing::warn!(run = %run.name_any(), "it has ended, and its status says something else: the \
        status is restored");
    end.observed_generation = run.metadata.generation;
    publish::end(run, end, cx).await?;
    Ok(Action::requeue(AGAIN))
}

async fn delete(run: &AgentRun, uid: &RunUid, cx: &Context) -> Result<Action, Error> {
    let namespace = run.namespace().ok_or(Error::Incomplete("namespace"))?;
    let api: Api<AgentRun> = Api::namespaced(cx.client.clone(), &namespace);
    let same = Preconditions {
        uid: Some(uid.as_str().to_owned()),
        resource_version: run.resource_version(),
    };
    let params = DeleteParams { preconditions: Some(same), ..DeleteParams::background() };
    cx.metrics.api_write(Kind::AgentRun, Verb::Delete);
    // A deletion that was not confirmed is asked for again: its preconditions name this object.
    match api.delete(&run.name_any(), &params).await.map_err(Error::api("a deletion")) {
        Ok(_) | Err(Error::Gone) => Ok(Action::await_change()),
        Err(why) => Err(why),
    }
}
