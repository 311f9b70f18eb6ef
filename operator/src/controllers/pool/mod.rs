//! The controller of `AgentVMPool`.

mod execute;
mod network;
mod observe;
mod publish;
mod room;

use std::{sync::Arc, time::Duration};

use agentvm_core::pool::{PoolFacts, Room, needs_policy, plan};
use agentvm_crds::AgentVMPool;
use agentvm_types::PoolUid;
use kube::runtime::controller::Action;

use super::{Context, Guarded, error::Error};
pub use network::declare_all_policies;
pub use room::NodeRoom;

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
    let needs_policy = needs_policy(&want, &observe::observe(pool, &want, &Ok(()), &cx)?.facts);
    let network = network::declare_policy(pool, &want, needs_policy, &cx).await;
    let seen = observe::observe(pool, &want, &network, &cx)?;
    let now = cx.clock.now();
    // Where others lack the machines that it has beyond its share, it is a smaller pool: idle
    // machines go, and used ones are not reset.
    let (allowed, seen) =
        (seen.yield_to.map_or_else(|| want.clone(), |n| want.at_most(n)), seen.facts);
    let mut plan_now = plan(&allowed, &seen, now);
    if allowed.max < want.max {
        // The machines that the pool does not get are what it says in its status.
        let none = PoolFacts { room: Room { machines: 0, ..seen.room.clone() }, ..seen.clone() };
        plan_now.no_room_for = plan(&want, &none, now).no_room_for;
    }
    let plan = plan_now;
    let done = execute::execute(pool, &allowed, &seen, &plan, &cx).await?;
    let after = observe::observe(pool, &want, &network, &cx)?.facts;
    let again = publish::publish_status(pool, &want, &after, &plan, &cx).await?;
    let slow = if network.is_err() || !done { AGAIN } else { SLOW };
    let wake = plan.wake.map_or(slow, |at| cx.wake_in(at)).min(slow);
    // The next look reports the findings about idle machines.
    let look = Duration::from_secs(u64::from(want.health_check_seconds)).min(SLOW);
    Ok(Action::requeue(again.unwrap_or(look).min(wake).min(look)))
}
