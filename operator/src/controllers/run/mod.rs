//! The controller of `AgentRun`.

mod end;
mod execute;
mod finished;
mod observe;
mod order;
mod publish;
mod references;
mod waiting;

use std::{sync::Arc, time::Duration};

use agentvm_core::run::{is_finished, open_attempt, plan, validate};
use agentvm_crds::AgentRun;
use kube::{ResourceExt, runtime::controller::Action};

use super::{Context, Guarded, error::Error};

pub use waiting::{waiting, waiting_count};

/// A look from time to time, should an event have been missed.
const SLOW: Duration = Duration::from_secs(30);

/// Observe, plan, execute, publish. A finished run only has its machine released and its time to live watched.
pub async fn reconcile(object: Arc<Guarded<AgentRun>>, cx: Arc<Context>) -> Result<Action, Error> {
    let Ok(run) = &object.0 else { return Ok(Action::await_change()) };
    let uid = run.uid().ok_or(Error::Incomplete("uid"))?;
    if is_finished(run.status.as_ref()) {
        return finished::tidy(run, &uid, &cx).await;
    }
    // A run that was claimed is not judged again when the pool changes; what it left to the pool is the pool's still.
    let asked =
        run.spec.timeout_seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(0);
    let claimed = open_attempt(run.status.as_ref()).is_some();
    let pool_max =
        observe::pool_max(run, &cx).map(|max| if claimed { max.max(asked) } else { max });
    let valid = match validate(&run.spec, &cx.defaults(), pool_max) {
        Ok(valid) => valid,
        Err(why) => return publish::invalid(run, &why, &cx).await,
    };
    let seen = observe::observe(run, &uid, &valid, &cx).await?;
    let plan = plan(&valid, &seen.facts, cx.clock.now());
    tracing::debug!(run = %run.name_any(), step = ?plan.step, "planned");
    execute::execute(run, &uid, &valid, seen, &plan.step, &cx).await?;
    Ok(Action::requeue(plan.wake.map_or(SLOW, |at| cx.wake_in(at)).min(SLOW)))
}
