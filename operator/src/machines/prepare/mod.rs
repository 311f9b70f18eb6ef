//! The stages `Creating` and `Resetting`: a machine gets to its golden state, by the tier that its
//! pool uses, and is prepared. If that fails, the machine is kept for a look or goes.

mod error;
mod evidence;
mod steps;

use std::time::Duration;

use agentvm_core::machine::{Event, Evidence, Incarnation, Prepared};
use agentvm_hypervisor::{MachineSpec, Tier};
use agentvm_types::report;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::{
    Inner,
    task::{Origin, Task},
};
use crate::{
    agent::Session,
    metrics::{BootKind, ResetResult, pool_id},
    network::Attachment,
};

pub use error::PrepareError;
use steps::{Preparation, Ready};

/// A machine that a run may have.
#[derive(Debug, Default)]
pub struct Lendable {
    /// The session of the preparation. `None`: the machine was found.
    pub session: Option<Session>,
    /// The machine runs, because a run waited for it. With the evidence to park it with.
    pub running: Option<Evidence>,
}

/// The machine comes to nothing: its task removes it.
#[derive(Debug)]
pub struct Gone;

impl Task {
    /// Makes the machine idle, or takes it over as it was found. The session of the preparation
    /// stays open.
    pub(super) async fn prepared(&mut self, origin: Origin) -> Result<Lendable, Gone> {
        let (tier, done) = match origin {
            Origin::Golden { attachment } => self.create(&attachment).await,
            Origin::Reset => (Tier::InPlace, self.reset().await),
            Origin::FoundParked(evidence) => {
                self.reuses = evidence.reuses;
                // The limits of its process are not known.
                return self.idle(Ready { session: None, evidence, limits: None, running: false });
            }
            Origin::FoundClaimed => {
                self.reuses = u32::MAX;
                self.found = true;
                return Ok(Lendable::default());
            }
            Origin::FoundQuarantined { until } => {
                self.keep_until(until).await;
                return Err(Gone);
            }
            Origin::FoundLost { why } => {
                tracing::info!(machine = %self.record.name, "a machine goes: {why}");
                return Err(Gone);
            }
        };
        match done {
            Ok(ready) => {
                let now = self.inner.now();
                self.inner.pools().note_success(&self.key.pool_uid, tier, now);
                self.idle(ready)
            }
            Err(why) => {
                self.failed(tier, &why).await;
                Err(Gone)
            }
        }
    }

    async fn create(&mut self, attachment: &Attachment) -> (Tier, Result<Ready, PrepareError>) {
        let (pool, golden, now) = (&self.key.pool_uid, &self.record.golden, self.inner.now());
        let tier = self.inner.pools().tiers.for_creation(pool, golden, now);
        if tier == Tier::Boot {
            // The machine has no private mapping of the golden's memory, so a reset has nothing to
            // drop.
            self.reuses = u32::MAX;
        }
        (tier, self.create_by(tier, attachment).await)
    }

    async fn create_by(
        &mut self,
        tier: Tier,
        attachment: &Attachment,
    ) -> Result<Ready, PrepareError> {
        let inner = self.inner.clone();
        // The semaphore is closed only when the operator stops; then the machine is not needed.
        let turn = inner.creation.acquire().await.map_err(|_| PrepareError::Stopping)?;
        let nic = inner.network.nic(&self.record.name, attachment).await;
        self.record.nic = nic.map_err(PrepareError::Network)?;
        let spec = self.spec(tier);
        self.measured(tier, self.preparation(&spec, &inner.creation).create(turn)).await
    }

    async fn reset(&self) -> Result<Ready, PrepareError> {
        let turns = &self.inner.resets;
        let turn = turns.acquire().await.map_err(|_| PrepareError::Stopping)?;
        let spec = self.spec(Tier::InPlace);
        self.measured(Tier::InPlace, self.preparation(&spec, turns).reset(turn)).await
    }

    fn spec(&self, tier: Tier) -> MachineSpec {
        MachineSpec {
            record: self.record.clone(),
            share_bytes: self.inner.config.share_bytes,
            tier,
            limits: self.limits(),
        }
    }

    fn preparation<'a>(&'a self, spec: &'a MachineSpec, turns: &'a Semaphore) -> Preparation<'a> {
        let Self { inner, guest, reuses, .. } = self;
        let Inner { hv, network, claims, stopping, .. } = &**inner;
        let (hv, clock, reuses) = (&**hv, &inner.config.clock, *reuses);
        let awaited = inner.pools().has_queue(&self.key.pool_uid);
        Preparation { hv, network, claims, turns, stopping, clock, spec, guest, reuses, awaited }
    }

    /// Warms and parks a machine that ran for a waiting run and was not taken. A machine for which
    /// that fails is lent no more, unless a run has it by now: its attempt finds out by itself.
    pub(super) async fn settle(&mut self, lendable: &mut Lendable) -> Result<(), Gone> {
        let Some(evidence) = lendable.running.take() else { return Ok(()) };
        let Some(session) = &mut lendable.session else { return Ok(()) };
        let spec = self.spec(Tier::InPlace);
        let inner = self.inner.clone();
        let turn = inner.resets.acquire().await.map_err(|_| Gone)?;
        let settled = self.preparation(&spec, &inner.resets).settle(session, &evidence).await;
        drop(turn);
        let Err(why) = settled else { return Ok(()) };
        // A session that failed is of no use to an attempt.
        lendable.session = None;
        if !self.inner.board().retire(&self.key) {
            return Ok(());
        }
        self.failed(Tier::InPlace, &why).await;
        Err(Gone)
    }

    /// A run may claim the machine from here on.
    fn idle(&self, ready: Ready) -> Result<Lendable, Gone> {
        let Ready { session, evidence, limits, running } = ready;
        let running = running.then(|| evidence.clone());
        let nonce = self.record.nonce.clone();
        let prepared = Prepared {
            incarnation: Incarnation { nonce, limits },
            since: self.inner.now(),
            evidence,
            nic: self.record.nic.clone(),
        };
        let idle = self.on(Event::Prepared(prepared));
        self.tell_pool();
        if idle { Ok(Lendable { session, running }) } else { Err(Gone) }
    }

    /// Notes the failure. A machine that is not in its golden state is kept for a look.
    async fn failed(&mut self, tier: Tier, why: &PrepareError) {
        let (machine, pool) = (&self.record.name, &self.record.owner);
        if matches!(why, PrepareError::Stopping) {
            return;
        }
        if let Some(why) = why.not_resettable() {
            tracing::info!(%machine, pool, "a machine is replaced: {why}");
            return;
        }
        self.not_ours = why.not_ours();
        let (message, now) = (report(why), self.inner.now());
        let verb = if tier == Tier::InPlace { "reset" } else { "made" };
        tracing::warn!(
            %machine,
            pool,
            tier = tier.as_str(),
            "a machine could not be {verb}: {message}"
        );
        self.note_failure(tier, why, message, now);
        if let Some(why) = why.not_proven() {
            self.quarantine(&why, now).await;
        }
    }

    fn note_failure(&self, tier: Tier, why: &PrepareError, message: String, now: Timestamp) {
        let (pool, mut pools) = (&self.key.pool_uid, self.inner.pools());
        if why.speaks_against(tier) {
            pools.tiers.note(pool, tier, Err(message.clone()), now);
        }
        // After a reset that failed a fresh process is worth a try at once.
        if tier != Tier::InPlace {
            pools.troubles.note_failure(pool, why.reason(), message, now);
        }
    }

    async fn quarantine(&mut self, why: &str, now: Timestamp) {
        let keep = self.inner.pools().get(&self.key.pool_uid).map(|pool| pool.quarantine);
        let keep = keep.unwrap_or_default();
        let Some(until) = now.checked_add(keep).ok().filter(|_| !keep.is_zero()) else { return };
        let name = &self.record.name;
        if let Err(why) = self.inner.hv.quarantine(name, until.as_second(), why).await {
            tracing::warn!(
                machine = %name,
                error = &why as &dyn std::error::Error,
                "a machine could not be kept for a look"
            );
            return;
        }
        self.on(Event::Quarantine { until });
        self.tell_pool();
        self.keep_until(until).await;
    }

    /// Does the work, and counts it. The wait for a turn is not counted.
    async fn measured(
        &self,
        tier: Tier,
        work: impl Future<Output = Result<Ready, PrepareError>>,
    ) -> Result<Ready, PrepareError> {
        let clock = &self.inner.config.clock;
        let begin = clock.instant();
        let done = work.await;
        let took = clock.instant() - begin;
        let metrics = &self.inner.config.metrics;
        let pool = pool_id(&self.record.namespace, &self.record.owner);
        match &done {
            Ok(ready) => {
                let millis = u64::try_from(ready.evidence.reset.millis).unwrap_or(0);
                metrics.reset(&pool, tier, ResetResult::Proven, Duration::from_millis(millis));
                metrics.booted(&pool, boot_kind(tier), took);
            }
            // It says nothing about the machine.
            Err(PrepareError::Stopping) => {}
            // No reset was carried out.
            Err(why) if why.not_resettable().is_some() => {}
            Err(why) if why.not_proven().is_some() => {
                metrics.reset(&pool, tier, ResetResult::NotProven, took);
            }
            Err(_) => metrics.reset(&pool, tier, ResetResult::Failed, took),
        }
        done
    }
}

fn boot_kind(tier: Tier) -> BootKind {
    match tier {
        Tier::InPlace => BootKind::Reset,
        Tier::Fresh => BootKind::Clone,
        Tier::Boot => BootKind::Cold,
    }
}
