//! The controller of `AgentVMPool`.

mod execute;
mod observe;
mod publish;

use std::{sync::Arc, time::Duration};

use agentvm_core::pool::{plan, validate};
use agentvm_crds::AgentVMPool;
use jiff::Timestamp;
use kube::runtime::controller::Action;

use super::{Context, Guarded, error::Error, run::until};

/// A look from time to time, should an event have been missed.
const SLOW: Duration = Duration::from_secs(30);

/// Observe, plan, execute, publish.
pub async fn reconcile(object: Arc<Guarded<AgentVMPool>>, cx: Arc<Context>) -> Result<Action, Error> {
    let Ok(pool) = &object.0 else { return Ok(Action::await_change()) };
    let want = match validate(&pool.spec, &cx.defaults) {
        Ok(want) => want,
        Err(why) => return publish::invalid(pool, &why, &cx).await,
    };
    let seen = observe::observe(pool, &want, &cx)?;
    let plan = plan(&want, &seen, Timestamp::now());
    execute::execute(pool, &want, &seen, &plan, &cx)?;
    let after = observe::observe(pool, &want, &cx)?;
    let again = publish::publish_status(pool, &want, &after, &plan, &cx).await?;
    let wake = plan.wake.map_or(SLOW, until);
    // What a look at idle machines found is told by the next one.
    let look = Duration::from_secs(u64::from(want.health_check_seconds)).min(SLOW);
    Ok(Action::requeue(again.unwrap_or(look).min(wake).min(look)))
}
