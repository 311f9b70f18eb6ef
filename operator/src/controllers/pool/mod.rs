//! The controller of `AgentVMPool`.

mod execute;
mod network;
mod observe;
mod publish;

use std::{sync::Arc, time::Duration};

use agentvm_core::pool::{needs_policy, plan};
use agentvm_crds::AgentVMPool;
use agentvm_types::PoolUid;
use kube::runtime::controller::Action;

use super::{Context, Guarded, error::Error};
pub use network::declare_all_policies;

/// A look from time to time, should an event have been missed.
const SLOW: Duration = Duration::from_secs(30);
/// The time between two tries after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// The UID of a pool as the API server sends it.
fn pool_uid(pool: &AgentVMPool) -> Result<PoolUid, Error> {
    pool.metadata.uid.clone().map(PoolUid::new).ok_or(Error::Incomplete("uid"))
}

/// Observe, plan, execute, publish.
pub async fn reconcile(
    object: Arc<Guarded<AgentVMPool>>,
    cx: Arc<Context>,
) -> Result<Action, Error> {
    let Ok(pool) = &object.0 else { return Ok(Action::await_change()) };
    network::prepare(pool, &cx).await;
    let want = match cx.valid_pool(pool) {
        Ok(want) => want,
        Err(why) => return publish::invalid(pool, &why, &cx).await,
    };
    // First of all: it holds for machines that run.
    let needs_policy = needs_policy(&want, &observe::observe(pool, &want, &Ok(()), &cx)?);
    let network = network::declare_policy(pool, &want, needs_policy, &cx).await;
    let seen = observe::observe(pool, &want, &network, &cx)?;
    let plan = plan(&want, &seen, cx.clock.now());
    let done = execute::execute(pool, &want, &seen, &plan, &cx).await?;
    let after = observe::observe(pool, &want, &network, &cx)?;
    let again = publish::publish_status(pool, &want, &after, &plan, &cx).await?;
    let slow = if network.is_err() || !done { AGAIN } else { SLOW };
    let wake = plan.wake.map_or(slow, |at| cx.wake_in(at)).min(slow);
    // The next look reports the findings about idle machines.
    let look = Duration::from_secs(u64::from(want.health_check_seconds)).min(SLOW);
    Ok(Action::requeue(again.unwrap_or(look).min(wake).min(look)))
}
