//! Keeps the Lease of this node, and looks at the Leases of the others.
//!
//! ```text
//!   renew  ── every 1/6 of the duration: one PUT, one LIST ──► Nodes (who is gone)
//!   look   ── every 1/30 ──► Standing (what this node may still do)
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentvm_core::node::{Nodes, Peers, Standing};
use agentvm_types::{NodeName, report};
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use tokio::sync::watch;
use tokio::time::sleep;

use super::lease::{Leases, describe, seen};
use super::{Held, Node};
use crate::clock::Clock;

/// The Lease that this process holds, and what follows from it.
#[derive(Debug)]
pub struct Keeper {
    leases: Leases,
    node: Node,
    clock: Clock,
    held: Mutex<Held>,
    standing: watch::Sender<Standing>,
    nodes: watch::Sender<Arc<Nodes>>,
    /// The operator that has taken the Lease. Then nothing brings it back.
    taken: watch::Sender<Option<String>>,
}

impl Keeper {
    pub fn new(leases: Leases, node: Node, clock: Clock, held: Held) -> Self {
        Self {
            leases,
            node,
            clock,
            held: Mutex::new(held),
            standing: watch::Sender::new(Standing::Held),
            nodes: watch::Sender::default(),
            taken: watch::Sender::default(),
        }
    }

    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    pub fn nodes(&self) -> watch::Receiver<Arc<Nodes>> {
        self.nodes.subscribe()
    }

    pub fn taken(&self) -> watch::Receiver<Option<String>> {
        self.taken.subscribe()
    }

    /// Renews the Lease and looks at the others for ever.
    pub async fn renew(self: Arc<Self>) {
        let mut peers = Peers::new(self.node.lease);
        loop {
            self.look_at_others(&mut peers).await;
            sleep(self.node.lease.renew_every()).await;
            if self.taken.borrow().is_some() {
                return;
            }
            // A request that was sent late may arrive late: the age counts from the sending.
            let sent = self.clock.uptime();
            let lease = self.held().lease.clone();
            let renewed = tokio::time::timeout(
                self.node.lease.patience(),
                self.leases.renew(lease, self.clock.now()),
            );
            match renewed.await {
                Ok(Ok(lease)) => *self.held() = Held { lease, renewed: sent },
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                    self.read_again().await;
                }
                Ok(Err(why)) => {
                    tracing::warn!("this node's Lease could not be renewed: {}", report(&why));
                }
                Err(_) => tracing::warn!("this node's Lease was not renewed in time"),
            }
        }
    }

    /// Follows the age of the last renewal for ever.
    pub async fn look(self: Arc<Self>) {
        loop {
            let age = self.clock.uptime().saturating_sub(self.held().renewed);
            let taken = self.taken.borrow().is_some();
            let now = if taken { Standing::Over } else { self.node.lease.standing(age) };
            self.standing.send_if_modified(|standing| {
                let changed = *standing != now;
                if changed && now == Standing::Held {
                    tracing::info!("this node's Lease is renewed again");
                } else if changed {
                    tracing::warn!("this node's Lease was not renewed for {age:?}: {now:?}");
                }
                *standing = now;
                changed
            });
            sleep(self.node.lease.look_every()).await;
        }
    }

    /// Another process has written the Lease, or an earlier renewal of ours arrived although we did
    /// not hear of it.
    async fn read_again(&self) {
        let sent = self.clock.uptime();
        let found = match self.leases.get().await {
            Ok(Some(lease)) => lease,
            Ok(None) => match self.leases.create(self.clock.now()).await {
                Ok(lease) => {
                    tracing::warn!("somebody deleted this node's Lease; it is made again");
                    *self.held() = Held { lease, renewed: sent };
                    return;
                }
                Err(why) => {
                    tracing::warn!("this node's Lease could not be made again: {}", report(&why));
                    return;
                }
            },
            Err(why) => {
                tracing::warn!("this node's Lease could not be read: {}", report(&why));
                return;
            }
        };
        if self.leases.is_mine(&found) {
            // The next renewal counts; this one's time of sending is not known.
            self.held().lease = found;
            return;
        }
        let who = describe(&found, &self.node.name);
        let over = seen(&found).over;
        let why = if over { "another node has noted that this one is gone" } else { &who };
        tracing::error!("this node's Lease is lost, so its attempts end: {why}");
        self.taken.send_replace(Some(why.to_owned()));
    }

    async fn look_at_others(&self, peers: &mut Peers) {
        let list = match self.leases.list().await {
            Ok(list) => list,
            Err(why) => {
                tracing::warn!("the Leases of other nodes could not be read: {}", report(&why));
                return;
            }
        };
        let now = self.clock.uptime();
        peers.see(list.iter().map(seen).collect(), now);
        // A node that is not sure of its own Lease says nothing about others.
        if *self.standing.borrow() == Standing::Held {
            self.note(&list, peers, now).await;
        }
        let nodes = peers.nodes(now);
        self.nodes.send_if_modified(|known| {
            let changed = **known != nodes;
            if changed {
                *known = Arc::new(nodes);
            }
            changed
        });
    }

    /// Writes what is known of nodes that are gone. Where another node was faster, its word counts.
    async fn note(&self, list: &[Lease], peers: &Peers, now: Duration) {
        let by_name = |name: &str| list.iter().find(|lease| lease.name_any() == name).cloned();
        for late in peers.to_end(now) {
            let Some(lease) = by_name(&late.name) else { continue };
            tracing::warn!("{}: it is gone", describe(&lease, &NodeName::new(late.name.clone())));
            if let Err(why) = self.leases.note_over(lease).await {
                tracing::info!(node = late.name, "not noted: {}", report(&why));
            }
        }
        for old in peers.to_forget(now) {
            let Some(lease) = by_name(&old.name) else { continue };
            if let Err(why) = self.leases.delete(&lease).await {
                tracing::info!(node = old.name, "an old Lease stays: {}", report(&why));
            }
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        // Every change is one assignment.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
