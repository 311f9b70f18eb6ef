//! Checks the host again and again. When it answers for the first time, the machines that survived
//! a restart are taken over.

use std::{collections::HashMap, sync::Arc, time::Duration};

use agentvm_core::{backoff::Backoff, run::open_attempt};
use agentvm_crds::AgentRun;
use agentvm_hypervisor::{HostFacts, HvError};
use agentvm_types::{Nonce, RunUid, report};
use kube::{Api, Client, api::ListParams};
use tokio::{sync::watch, time::sleep};

use super::{Context, Guarded, error::Error, pool};

/// Between two looks at a host that answers.
const INTERVAL: Duration = Duration::from_secs(10);

/// The known state of the host.
#[derive(Clone, Debug)]
pub enum HostState {
    /// The host was not asked yet, or its machines are not taken over yet: nothing may be made, and
    /// nothing is lost.
    Unknown(String),
    Ready(Arc<HostFacts>),
    /// It was ready once; machines of before may still run.
    Unavailable {
        facts: Arc<HostFacts>,
        why: String,
    },
}

impl HostState {
    /// The facts, as soon as they were known once.
    pub fn facts(&self) -> Option<&Arc<HostFacts>> {
        match self {
            Self::Unknown(_) => None,
            Self::Ready(facts) | Self::Unavailable { facts, .. } => Some(facts),
        }
    }

    /// Why nothing can be made.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Unknown(why) | Self::Unavailable { why, .. } => Some(why),
            Self::Ready(_) => None,
        }
    }
}

/// Watches the host for ever.
pub async fn watch_host(cx: Arc<Context>, state: watch::Sender<HostState>) {
    let mut failures = 0;
    loop {
        let known = state.borrow().facts().cloned();
        let looked = match known {
            None => take_over(&cx).await,
            Some(facts) => cx.machines.host().health().await.map(|()| facts).map_err(Problem::Host),
        };
        failures = if looked.is_ok() { 0 } else { failures + 1 };
        publish(&state, &looked);
        sleep(if failures == 0 {
            INTERVAL
        } else {
            Backoff::RECONCILE.after(failures, "host").min(INTERVAL)
        })
        .await;
    }
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("the host")]
    Host(#[source] HvError),
    #[error("the runs could not be listed")]
    Api(#[source] Error),
}

/// Before anything new is made: removes the half-made remains of a crash, and takes over living
/// machines.
async fn take_over(cx: &Context) -> Result<Arc<HostFacts>, Problem> {
    let Context { client, machines, goldens, .. } = cx;
    let hv = machines.host();
    hv.health().await.map_err(Problem::Host)?;
    let facts = hv.facts().await.map_err(Problem::Host)?;
    let whole = goldens.refresh().await.map_err(Problem::Host)?;
    let open = open_attempts(client).await.map_err(Problem::Api)?;
    let found = machines.recover(&open, &whole).await.map_err(Problem::Host)?;
    pool::declare_all_policies(cx).await;
    for gone in hv.sweep().await.map_err(Problem::Host)? {
        tracing::info!("removed what an earlier end left behind: {gone}");
    }
    tracing::info!(
        claimed = found.claimed,
        idle = found.idle,
        goldens = whole.len(),
        accelerator = ?facts.accelerator,
        "the host is ready"
    );
    Ok(Arc::new(facts))
}

/// Nonces of attempts that are under way, with the runs that have them.
async fn open_attempts(client: &Client) -> Result<HashMap<Nonce, RunUid>, Error> {
    let runs: Api<Guarded<AgentRun>> = Api::all(client.clone());
    let list = runs.list(&ListParams::default()).await.map_err(Error::api("the list of runs"))?;
    let open = list.items.into_iter().filter_map(|run| run.0.ok()).filter_map(|run| {
        // An invalid nonce names no machine.
        let nonce = open_attempt(run.status.as_ref())?.nonce.parse().ok()?;
        Some((nonce, RunUid::new(run.metadata.uid?)))
    });
    Ok(open.collect())
}

fn publish(state: &watch::Sender<HostState>, looked: &Result<Arc<HostFacts>, Problem>) {
    state.send_if_modified(|now| {
        let next = match (looked, now.facts()) {
            (Ok(facts), _) => HostState::Ready(facts.clone()),
            (Err(why), None) => HostState::Unknown(report(why)),
            (Err(why), Some(facts)) => {
                HostState::Unavailable { facts: facts.clone(), why: report(why) }
            }
        };
        let changed =
            std::mem::discriminant(&next) != std::mem::discriminant(now) || next.why() != now.why();
        if let (true, Err(why)) = (changed || matches!(now, HostState::Unknown(_)), looked) {
            tracing::warn!(
                error = why as &dyn std::error::Error,
                "the host of machines is not available: {}",
                report(why)
            );
        }
        *now = next;
        changed
    });
}
