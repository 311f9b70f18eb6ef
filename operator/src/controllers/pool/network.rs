//! Puts a pool's network policy into force, at once and for machines with a run too.

use std::{collections::BTreeMap, path::Path};

use agentvm_core::{
    golden::DeviceLayout,
    pool::{Blocked, ValidPool, network_mode},
};
use agentvm_crds::{AgentVMPool, PoolReason};
use agentvm_types::{OwnerUid, PoolUid, report};

use crate::{
    controllers::{Context, HostState},
    network::{Attachment, PoolNetwork, bridge_exists},
};

/// Where the kernel lists interfaces.
const INTERFACES: &str = "/sys/class/net";

/// Makes the network of machines that have one, so that its subnet is known before a policy is
/// judged. If it cannot be made, the step that puts the pool's policy into force says why.
pub async fn prepare(pool: &AgentVMPool, cx: &Context) {
    if matches!(*cx.host.borrow(), HostState::Ready(_)) && is_connected(pool, cx) {
        let _ = cx.machines.network().subnet().await;
    }
}

fn is_connected(pool: &AgentVMPool, cx: &Context) -> bool {
    DeviceLayout::of(network_mode(pool.spec.network.as_ref(), &cx.defaults())) == DeviceLayout::Nic
}

/// Puts the pool's policy into force. An error is why it has no network, and so gets no machines.
/// A pool that has no machine on this node and is to get none has no policy here: rules cost the
/// kernel memory.
pub async fn declare_policy(
    pool: &AgentVMPool,
    want: &ValidPool,
    needs_policy: bool,
    cx: &Context,
) -> Result<(), Blocked> {
    let Some(uid) = pool.metadata.uid.clone().map(OwnerUid::new) else { return Ok(()) };
    // Before the earlier machines are taken over, the policies of all other owners would be
    // missing.
    if !matches!(*cx.host.borrow(), HostState::Ready(_)) {
        return Ok(());
    }
    let network = cx.machines.network();
    let unavailable = |message: String| Blocked { reason: PoolReason::NetworkUnavailable, message };
    let attachment = PoolNetwork::of(want).attachment;
    if attachment == Attachment::Isolated {
        return network.drop_policy(&uid).await.map_err(|why| unavailable(report(&why)));
    }
    if needs_policy {
        let policy = want.policy(pool.metadata.generation.unwrap_or_default());
        network.set_policy(&uid, policy).await.map_err(|why| unavailable(report(&why)))?;
    } else {
        network.drop_policy(&uid).await.map_err(|why| unavailable(report(&why)))?;
    }
    match attachment {
        Attachment::Bridge(bridge) if !bridge_exists(Path::new(INTERFACES), &bridge) => {
            Err(unavailable(format!(
                "spec.network.bridge: this node has no bridge {bridge:?}; make it (`ip link add \
                    {bridge} type bridge`, `ip link set \
             {bridge} up`), or name one that is there"
            )))
        }
        Attachment::DualStack => {
            network.enable_ipv6().await.map_err(|why| unavailable(report(&why)))
        }
        Attachment::Isolated | Attachment::Nat | Attachment::Bridge(_) => Ok(()),
    }
}

/// The policies of all pools with machines here, when the earlier machines are taken over: machines
/// of a missing pool would be cut off. A pool with an invalid spec has none.
pub async fn declare_all_policies(cx: &Context) {
    let pools = cx.caches.pools.state();
    let connected = || {
        pools
            .iter()
            .filter_map(|object| object.0.as_ref().ok())
            .filter(|pool| is_connected(pool, cx))
    };
    if connected().next().is_some() {
        let _ = cx.machines.network().subnet().await;
    }
    let policies = connected().filter_map(|pool| {
        let want = cx.valid_pool(pool).ok()?;
        let uid = PoolUid::new(pool.metadata.uid.clone()?);
        (!cx.machines.seen(&uid).is_empty()).then_some(())?;
        Some((OwnerUid::from(&uid), want.policy(pool.metadata.generation.unwrap_or_default())))
    });
    let policies: BTreeMap<_, _> = policies.collect();
    if let Err(why) = cx.machines.network().replace_policies(policies).await {
        tracing::warn!(
            error = &why as &dyn std::error::Error,
            "machines have no network: {}",
            report(&why)
        );
    }
}
