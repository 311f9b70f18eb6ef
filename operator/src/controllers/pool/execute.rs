//! Carries a pool's plan out: machines are begun and ended here, and finish on their own tasks.

use std::time::Duration;

use agentvm_core::pool::{Plan, PoolFacts, ValidPool};
use agentvm_crds::AgentVMPool;

use crate::{
    controllers::{Context, error::Error, pool::pool_uid},
    machines::PoolOwner,
    network::PoolNetwork,
};

/// Begins missing machines, ends surplus ones, changes changed ones. `false` means that a part of
/// it could not be done.
pub async fn execute(
    pool: &AgentVMPool,
    want: &ValidPool,
    seen: &PoolFacts,
    plan: &Plan,
    cx: &Context,
) -> Result<bool, Error> {
    let meta = &pool.metadata;
    let owner = PoolOwner {
        namespace: meta.namespace.clone().ok_or(Error::Incomplete("namespace"))?,
        name: meta.name.clone().ok_or(Error::Incomplete("name"))?,
        uid: pool_uid(pool)?,
        health_check: Duration::from_secs(u64::from(want.health_check_seconds)),
        reuse_policy: want.reuse_policy,
        max_reuses: want.max_reuses,
        quarantine: Duration::from_secs(u64::from(want.quarantine_seconds)),
        max: want.max,
        golden: seen.golden.as_ref().ok().cloned(),
        network: PoolNetwork::of(want),
        limits: want.limits,
        queued: seen.queued,
    };
    cx.machines.set_pool(owner.clone());
    cx.machines.retire(&owner.uid, &plan.retire);
    // A guest is told its network once, when it is rehydrated.
    cx.machines.retire(&owner.uid, &cx.machines.with_stale_network(&owner.uid, &owner.network));
    let begun = cx.draining() || begin(&owner, seen, plan, cx)?;
    // This comes last: runs wait for the machines that were begun above.
    Ok(cx.machines.update_limits(&owner.uid, owner.limits).await && begun)
}

/// Begins the missing machines, as far as there is room for them still. `false`: there is not.
fn begin(owner: &PoolOwner, seen: &PoolFacts, plan: &Plan, cx: &Context) -> Result<bool, Error> {
    let Some((key, golden)) =
        seen.golden.as_ref().ok().and_then(|key| Some((key, cx.goldens.get(key)?)))
    else {
        return Ok(true);
    };
    let mut all = true;
    if !plan.create.is_empty() {
        // Another pool may have taken the room since the look.
        let permit = cx.room.permit(golden.resources.memory_mib, &cx.machines);
        all = plan.create.len() <= permit.machines as usize;
        for slot in plan.create.iter().take(permit.machines as usize) {
            cx.machines.create(owner, *slot, &golden).map_err(Error::Machine)?;
        }
    }
    cx.machines.test_tiers(key);
    Ok(all)
}
