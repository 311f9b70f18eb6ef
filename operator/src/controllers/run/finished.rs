//! A finished run: its machine goes (again, should the release have been missed), and the object when its time is over.

use std::time::Duration;

use agentvm_core::{calendar, status::find};
use agentvm_crds::{AgentRun, condition_type};
use jiff::{Timestamp, ToSpan};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Preconditions},
    runtime::controller::Action,
};

use crate::{
    controllers::{Context, error::Error},
    metrics::{Kind, Verb},
};

/// No timer runs longer than this; then it is looked at again.
const LONGEST: Duration = Duration::from_hours(1);

/// Releases, and deletes after `ttlSecondsAfterFinished`. What the run left is swept with the object.
pub async fn tidy(run: &AgentRun, uid: &str, cx: &Context) -> Result<Action, Error> {
    cx.machines.release(uid);
    let Some(expires) = expires(run) else { return Ok(Action::await_change()) };
    if expires > cx.clock.now() {
        return Ok(Action::requeue(cx.wake_in(expires).min(LONGEST)));
    }
    let namespace = run.namespace().ok_or(Error::Incomplete("namespace"))?;
    let api: Api<AgentRun> = Api::namespaced(cx.client.clone(), &namespace);
    let same =
        Preconditions { uid: Some(uid.to_owned()), resource_version: run.resource_version() };
    let params = DeleteParams { preconditions: Some(same), ..DeleteParams::background() };
    cx.metrics.api_write(Kind::AgentRun, Verb::Delete);
    match api.delete(&run.name_any(), &params).await.map_err(Error::api("a deletion")) {
        Ok(_) | Err(Error::Gone) => Ok(Action::await_change()),
        Err(why) => Err(why),
    }
}

fn expires(run: &AgentRun) -> Option<Timestamp> {
    let status = run.status.as_ref()?;
    let ended = find(&status.conditions, condition_type::SUCCEEDED)?;
    let ended = calendar::parse(&ended.last_transition_time)?;
    ended.checked_add(i64::from(run.spec.ttl_seconds_after_finished.max(0)).seconds()).ok()
}
