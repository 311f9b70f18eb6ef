//! Takes the Lease of this node's name before anything is claimed, or says who has it.

use std::time::Duration;

use agentvm_core::node::{Acquire, Me, acquire as decide};
use agentvm_hypervisor::HvError;
use agentvm_types::report;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;

use super::lease::{Leases, describe, seen};
use super::{Held, Node};
use crate::clock::Clock;

/// The pause after a request that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// The node can't have its Lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error(
        "{holder}; this operator has node id {id}. Give this host a name of its own (node.name in \
         the configuration, or the host's name), or end the other operator; its Lease is {name} in \
         namespace {namespace}"
    )]
    Taken { holder: String, id: String, name: String, namespace: String },
    #[error(
        "the operator may not keep its Lease in namespace {namespace}; let it get, list, create, \
         update and delete leases of coordination.k8s.io there, and create the namespace once \
         (kubectl create namespace {namespace})"
    )]
    Forbidden {
        namespace: String,
        #[source]
        why: Box<kube::Error>,
    },
}

/// Returns when this node holds the Lease of its name. `end_attempts` ends the machines of earlier
/// attempts: others may run these attempts already.
pub async fn acquire(
    leases: &Leases,
    node: &Node,
    clock: &Clock,
    mut end_attempts: impl AsyncFnMut() -> Result<(), HvError>,
) -> Result<Held, LeaseError> {
    let mut watched: Option<(String, Duration)> = None;
    loop {
        let began = clock.uptime();
        let pause = match step(leases, node, clock, &mut watched, &mut end_attempts).await? {
            Next::Held(lease) => {
                give_up_old_names(leases).await;
                return Ok(Held { lease: *lease, renewed: began });
            }
            Next::Again => Duration::ZERO,
            Next::After(pause) => pause,
        };
        tokio::time::sleep(pause).await;
    }
}

enum Next {
    Held(Box<Lease>),
    Again,
    After(Duration),
}

async fn step(
    leases: &Leases,
    node: &Node,
    clock: &Clock,
    watched: &mut Option<(String, Duration)>,
    end_attempts: &mut impl AsyncFnMut() -> Result<(), HvError>,
) -> Result<Next, LeaseError> {
    let found = match leases.get().await {
        Ok(found) => found,
        Err(why) => return failed(leases, node, why).await,
    };
    let Some(lease) = found else {
        return match leases.create(clock.now()).await {
            Ok(lease) => Ok(Next::Held(Box::new(lease))),
            Err(why) => failed(leases, node, why).await,
        };
    };
    let (now, known) = (clock.uptime(), seen(&lease));
    if watched.is_none() {
        tracing::info!("{}", describe(&lease, &node.name));
    }
    let (first, since) = watched.get_or_insert_with(|| (known.version.clone(), now));
    let me = Me { id: &node.id, boot: &node.boot };
    match decide(&known, me, first, now.saturating_sub(*since)) {
        Acquire::Take => {}
        Acquire::Watch(enough) => {
            tracing::info!("waiting up to {enough:?} to see whether that operator lives");
            return Ok(Next::After((known.times.renew_every() / 2).min(AGAIN)));
        }
        Acquire::Refused => {
            return Err(LeaseError::Taken {
                holder: describe(&lease, &node.name),
                id: node.id.to_string(),
                name: lease.name_any(),
                namespace: node.lease_namespace.clone(),
            });
        }
    }
    if known.over
        && let Err(why) = end_attempts().await
    {
        tracing::warn!(
            "machines of attempts that may run elsewhere must end first: {}",
            report(&why)
        );
        return Ok(Next::After(AGAIN));
    }
    match leases.take(lease, clock.now()).await {
        Ok(lease) => Ok(Next::Held(Box::new(lease))),
        Err(why) => failed(leases, node, why).await,
    }
}

async fn failed(leases: &Leases, node: &Node, why: kube::Error) -> Result<Next, LeaseError> {
    let code = if let kube::Error::Api(status) = &why { status.code } else { 0 };
    let namespace = node.lease_namespace.clone();
    match code {
        // Another one was faster, or the Lease went.
        409 => return Ok(Next::Again),
        404 => match leases.create_namespace().await {
            Ok(()) => return Ok(Next::Again),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                return Err(LeaseError::Forbidden { namespace, why: Box::new(why) });
            }
            Err(_) => {}
        },
        401 | 403 => return Err(LeaseError::Forbidden { namespace, why: Box::new(why) }),
        _ => {}
    }
    tracing::warn!("the Lease of this node can't be taken yet: {}", report(&why));
    Ok(Next::After(AGAIN))
}

/// The host was renamed: the Lease of the old name is not needed any more, and the entries of the
/// old name go from every status.
async fn give_up_old_names(leases: &Leases) {
    let old = match leases.list().await {
        Ok(all) => all.into_iter().filter(|lease| leases.was_mine(lease)),
        Err(why) => {
            tracing::warn!("Leases of earlier names could not be read: {}", report(&why));
            return;
        }
    };
    for mut lease in old {
        let name = lease.name_any();
        tracing::info!(name, "this node had another name before");
        lease.spec.get_or_insert_default().holder_identity = None;
        if let Err(why) = leases.note_over(lease).await {
            tracing::warn!(name, "the Lease of an earlier name stays: {}", report(&why));
        }
    }
}
