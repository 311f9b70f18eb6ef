//! The steps of a preparation: the machine is made or reset, its agent's answer is checked, it gets
//! its own nonce, is warmed, and is parked with its evidence.
//!
//! A machine whose agent does not acknowledge each step gets no place in the pool.

use std::{net::Ipv4Addr, time::Duration};

use agentvm_core::machine::Evidence;
use agentvm_crds::ResetStatus;
use agentvm_guest_agent::protocol::GuestHello;
use agentvm_hypervisor::{HvError, Hypervisor, MachineSpec, Proof, Tier};
use agentvm_types::MachineLimits;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{super::claim_priority::ClaimGate, PrepareError, evidence};
use crate::{
    agent::{self, Session, WakeError, lease, lease_message, matches_golden, rehydrate},
    clock::Clock,
    network::{BridgedNic, Network},
};

/// The time that a fresh process may take to its first answer. An emulated one needs about a
/// second.
const FIRST_ANSWER: Duration = Duration::from_secs(30);
/// The time that a machine which boots may take. Emulation is an order of magnitude slower.
const FIRST_ANSWER_BOOT: Duration = Duration::from_mins(4);
/// The time that an agent may take over WARM.
const WARM: Duration = Duration::from_secs(30);
/// The time that a DHCP server has. Only machines in preparation wait for it, and no run does.
const LEASE: Duration = Duration::from_secs(20);

/// A machine that is proven and has its identity. It is parked, or it still runs for a run that
/// waits.
#[derive(Debug)]
pub struct Ready {
    /// The session of the preparation. `None`: the machine was found parked.
    pub session: Option<Session>,
    pub evidence: Evidence,
    /// The limits that the host holds its process to; `None` when they are not known.
    pub limits: Option<MachineLimits>,
    /// The machine is not warmed and not parked: it runs.
    pub running: bool,
}

/// The means of one preparation.
#[derive(Debug)]
pub struct Preparation<'a> {
    pub hv: &'a dyn Hypervisor,
    pub network: &'a Network,
    pub claims: &'a ClaimGate,
    /// The turns for work that takes the host's own time.
    pub turns: &'a Semaphore,
    pub stopping: &'a CancellationToken,
    pub clock: &'a Clock,
    pub spec: &'a MachineSpec,
    /// The inspection that the golden's agent gave at the capture.
    pub guest: &'a str,
    pub reuses: u32,
    /// A run waits for the machine: it gets the machine without a rehearsal, and no step waits for
    /// the claims of other runs.
    pub awaited: bool,
}

impl Preparation<'_> {
    /// Makes the machine in a fresh process.
    pub async fn create(&self, turn: SemaphorePermit<'_>) -> Result<Ready, PrepareError> {
        self.pass().await;
        let begun = self.clock.instant();
        self.hv.create(self.spec).await.map_err(PrepareError::Create)?;
        self.pass().await;
        self.answer(begun, None, turn).await
    }

    /// Resets the machine in its process.
    pub async fn reset(&self, turn: SemaphorePermit<'_>) -> Result<Ready, PrepareError> {
        self.pass().await;
        let begun = self.clock.instant();
        let proof = match self.hv.reset(self.spec).await {
            // A proof that lacks a check proves nothing.
            Ok(proof) if proof.failure().is_some() => Err(HvError::NotProven {
                name: self.spec.record.name.clone(),
                proof: Box::new(proof),
            }),
            other => other,
        };
        let proof = proof.inspect_err(|why| {
            if let HvError::NotProven { proof, .. } = why {
                let reset = evidence::status(
                    Tier::InPlace,
                    self.since(begun),
                    Some(proof),
                    Err("not asked"),
                );
                evidence::log(&self.spec.record, &reset);
            }
        });
        self.answer(begun, Some(&proof.map_err(PrepareError::Reset)?), turn).await
    }

    /// Lets claims go first, unless a run waits for this machine.
    async fn pass(&self) {
        if !self.awaited {
            self.claims.pass().await;
        }
    }

    /// Lets the machine run, checks its agent's answer, gives it its identity. Parks it, unless a
    /// run waits for it.
    async fn answer(
        &self,
        begun: Instant,
        proof: Option<&Proof>,
        turn: SemaphorePermit<'_>,
    ) -> Result<Ready, PrepareError> {
        let tier = if proof.is_some() { Tier::InPlace } else { self.spec.tier };
        let mut phases = Phases { clock: self.clock, last: begun, done: Vec::new() };
        phases.end("state");
        let (mut session, hello) = self.awake(tier).await?;
        phases.end("wake");
        let reset = self.proven(tier, begun, proof, &hello)?;
        self.pass().await;
        phases.end("pass");
        let (resolvers, turn) = self.identified(&mut session, turn, &mut phases).await?;
        let evidence = Evidence { reset, reuses: self.reuses, resolvers };
        if !self.awaited {
            self.warm_and_park(&mut session, &evidence, &mut phases).await?;
        }
        drop(turn);
        tracing::debug!(
            machine = %self.spec.record.name,
            tier = tier.as_str(),
            phases = ?phases.done,
            "prepared"
        );
        let (limits, running) = (Some(self.spec.limits), self.awaited);
        Ok(Ready { session: Some(session), evidence, limits, running })
    }

    /// Warms and parks a machine that ran for a run which did not take it.
    pub async fn settle(
        &self,
        session: &mut Session,
        evidence: &Evidence,
    ) -> Result<(), PrepareError> {
        self.claims.pass().await;
        let last = self.clock.instant();
        let mut phases = Phases { clock: self.clock, last, done: Vec::new() };
        self.warm_and_park(session, evidence, &mut phases).await
    }

    async fn warm_and_park(
        &self,
        session: &mut Session,
        evidence: &Evidence,
        phases: &mut Phases<'_>,
    ) -> Result<(), PrepareError> {
        session.warm(WARM).await.map_err(PrepareError::Warm)?;
        phases.end("warm");
        self.park(evidence).await?;
        phases.end("park");
        Ok(())
    }

    async fn awake(&self, tier: Tier) -> Result<(Session, GuestHello), PrepareError> {
        let patience = if tier == Tier::Boot { FIRST_ANSWER_BOOT } else { FIRST_ANSWER };
        let woken = agent::wake(self.hv, &self.spec.record.name, self.clock, patience).await;
        let (session, hello, _) = woken.map_err(|why| match why {
            WakeError::Resume(why) => PrepareError::Power(why),
            WakeError::Session(why) => PrepareError::Session(why),
        })?;
        Ok((session, hello))
    }

    /// The whole proof: the checks from outside, and the agent's own answer.
    fn proven(
        &self,
        tier: Tier,
        begun: Instant,
        proof: Option<&Proof>,
        hello: &GuestHello,
    ) -> Result<ResetStatus, PrepareError> {
        let guest = match tier {
            Tier::Boot => agent::unused(hello),
            Tier::InPlace | Tier::Fresh => matches_golden(self.guest, hello),
        };
        let said = guest.as_ref().copied().map_err(String::as_str);
        let reset = evidence::status(tier, self.since(begun), proof, said);
        evidence::log(&self.spec.record, &reset);
        guest.map_err(PrepareError::Guest)?;
        Ok(reset)
    }

    /// Gives the machine its identity and its network. Returns the name servers that its guest
    /// asks.
    async fn identified<'t>(
        &'t self,
        session: &mut Session,
        mut turn: SemaphorePermit<'t>,
        phases: &mut Phases<'_>,
    ) -> Result<(Vec<Ipv4Addr>, SemaphorePermit<'t>), PrepareError> {
        let record = &self.spec.record;
        let (network, bridged) =
            (self.network.guest_network(record), self.network.bridged_nic(record));
        let told = network.as_ref().map(|network| &network.resolvers);
        let resolvers =
            told.or(bridged.as_ref().map(|nic| &nic.resolvers)).cloned().unwrap_or_default();
        let given = rehydrate(session, record, network, true, self.clock.now()).await;
        given.map_err(PrepareError::Rehydrate)?;
        phases.end("rehydrate");
        // From here on the machine has an address of its own; its rules are in force before its
        // link opens.
        self.network.connect(record).await.map_err(PrepareError::Network)?;
        phases.end("network");
        if let Some(nic) = &bridged {
            // The DHCP server may take long: the next machine gets the turn meanwhile.
            drop(turn);
            self.leased(session, nic).await?;
            turn = self.turns.acquire().await.map_err(|_| PrepareError::Stopping)?;
            phases.end("lease");
        }
        Ok((resolvers, turn))
    }

    async fn park(&self, evidence: &Evidence) -> Result<(), PrepareError> {
        let text = serde_json::to_string(evidence).map_err(PrepareError::Evidence)?;
        self.hv.park(&self.spec.record.name, &text).await.map_err(PrepareError::Power)
    }

    fn since(&self, begun: Instant) -> Duration {
        self.clock.instant().saturating_duration_since(begun)
    }

    async fn leased(&self, session: &mut Session, nic: &BridgedNic) -> Result<(), PrepareError> {
        let message = lease_message(nic, LEASE, self.clock.now());
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => Err(PrepareError::Stopping),
            done = lease(self.hv, &self.spec.record.name, session, message) => {
                done.map_err(PrepareError::Lease)
            }
        }
    }
}

/// The time that each phase took, for the log.
struct Phases<'a> {
    clock: &'a Clock,
    last: Instant,
    done: Vec<(&'static str, Duration)>,
}

impl Phases<'_> {
    fn end(&mut self, phase: &'static str) {
        let now = self.clock.instant();
        self.done.push((phase, now.saturating_duration_since(self.last)));
        self.last = now;
    }
}
