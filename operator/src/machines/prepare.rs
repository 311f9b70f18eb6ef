//! From a golden to a machine that may be lent: made or brought back, its agent's answer judged, rehydrated with its own nonce,
//! warmed, parked with what proves it.
//!
//! No acknowledgement, no place in the pool.

use std::time::Duration;

use agentvm_crds::PoolReason;
use agentvm_guest_agent::client::ClientError;
use agentvm_hypervisor::{HvError, Hypervisor, MachineSpec, Proof, Tier};
use jiff::Timestamp;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    board::Idle,
    evidence::{self, Evidence},
    urgent::Claims,
};
use crate::{
    agent::{
        self, Session, SessionError, Unleased, WakeError, lease, lease_message, matches_golden,
        rehydrate,
    },
    network::{BridgedNic, Network},
};

/// How long a fresh clone may take to its first answer; emulated ones need about a second.
const FIRST_ANSWER: Duration = Duration::from_secs(30);
/// The same for one that boots: emulation is an order of magnitude slower.
const FIRST_ANSWER_BOOT: Duration = Duration::from_mins(4);
/// An agent may take this long over WARM.
const WARM: Duration = Duration::from_secs(30);
/// A DHCP server has this time. Only other machines that are to be made wait for it.
const LEASE: Duration = Duration::from_secs(20);

/// Why a machine could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("the machine could not be created")]
    Create(#[source] HvError),
    #[error("the machine could not be brought back to its golden state")]
    Reset(#[source] HvError),
    #[error("the machine could not be resumed or parked")]
    Power(#[source] HvError),
    #[error("no session with its agent")]
    Session(#[source] SessionError),
    #[error("what its agent says is not what the golden's said: {0}")]
    Guest(String),
    #[error("its agent did not confirm that it took over its new identity")]
    Rehydrate(#[source] SessionError),
    #[error("its agent did not warm it")]
    Warm(#[source] ClientError),
    #[error("the machine has no network")]
    Network(#[source] HvError),
    #[error("the machine has no address on the bridge that it is plugged into")]
    Lease(#[source] Unleased),
    #[error("its proof could not be written down")]
    Evidence(#[source] serde_json::Error),
    #[error("the operator stops")]
    Stopping,
}

impl PrepareError {
    /// Why it isn't in its golden state, where that was seen; all else says nothing about its state.
    pub fn not_proven(&self) -> Option<String> {
        match self {
            Self::Reset(HvError::NotProven { proof, .. }) => {
                Some(proof.failure().unwrap_or_default())
            }
            Self::Guest(why) => Some(format!("guest: {why}")),
            _ => None,
        }
    }

    /// Why it isn't worth a reset, where that is all: what a run can do to its own machine says nothing about the way.
    pub fn not_resettable(&self) -> Option<&str> {
        match self {
            Self::Reset(HvError::NotResettable { why, .. }) => Some(why),
            _ => None,
        }
    }

    /// What the pool says while it lasts.
    pub fn reason(&self) -> PoolReason {
        match self {
            Self::Network(HvError::NoCapacity { .. }) => PoolReason::NoCapacity,
            Self::Network(_)
            | Self::Lease(_)
            | Self::Create(HvError::NetworkUnavailable { .. }) => PoolReason::NetworkUnavailable,
            _ => PoolReason::CreateFailed,
        }
    }

    /// Whether it says something about the way that was taken; a host that is gone or full doesn't, nor does what was left of a
    /// machine.
    pub fn speaks_against(&self, tier: Tier) -> bool {
        match self {
            Self::Create(why) => tier == Tier::Fresh && why.is_refusal(),
            Self::Reset(HvError::NotResettable { .. } | HvError::NetworkUnavailable { .. })
            | Self::Network(_)
            | Self::Lease(_)
            | Self::Evidence(_)
            | Self::Stopping => false,
            Self::Reset(why) | Self::Power(why) => {
                tier == Tier::InPlace
                    && !matches!(why, HvError::Unavailable { .. } | HvError::NoCapacity { .. })
            }
            Self::Session(_) | Self::Guest(_) | Self::Rehydrate(_) | Self::Warm(_) => {
                tier == Tier::InPlace
            }
        }
    }
}

/// A machine that may be lent.
#[derive(Debug)]
pub struct Ready {
    /// Open since it was prepared; none where the machine was found like this.
    pub session: Option<Session>,
    pub idle: Idle,
}

/// What preparing takes.
#[derive(Debug)]
pub struct Preparation<'a> {
    pub hv: &'a dyn Hypervisor,
    pub links: &'a Network,
    pub claims: &'a Claims,
    /// Where a place is had for what takes the host's own time.
    pub turns: &'a Semaphore,
    pub stopping: &'a CancellationToken,
    pub spec: &'a MachineSpec,
    /// What the golden's agent said of itself.
    pub guest: &'a str,
    pub reuses: u32,
}

impl Preparation<'_> {
    /// In a fresh process.
    pub async fn create(&self, turn: SemaphorePermit<'_>) -> Result<Ready, PrepareError> {
        self.claims.pass().await;
        let begun = Instant::now();
        self.hv.create(self.spec).await.map_err(PrepareError::Create)?;
        self.claims.pass().await;
        self.answer(begun, None, turn).await
    }

    /// In the same process again.
    pub async fn reset(&self, turn: SemaphorePermit<'_>) -> Result<Ready, PrepareError> {
        self.claims.pass().await;
        let begun = Instant::now();
        let proof = match self.hv.reset(self.spec).await {
            // Whoever forgets a check proves nothing.
            Ok(proof) if proof.failure().is_some() => Err(HvError::NotProven {
                name: self.spec.record.name.clone(),
                proof: Box::new(proof),
            }),
            other => other,
        };
        let proof = proof.inspect_err(|why| {
            if let HvError::NotProven { proof, .. } = why {
                let reset =
                    evidence::status(Tier::InPlace, begun.elapsed(), Some(proof), Err("not asked"));
                evidence::log(&self.spec.record, &reset);
            }
        });
        self.answer(begun, Some(&proof.map_err(PrepareError::Reset)?), turn).await
    }

    /// Lets it run, asks it, makes it one of its own.
    async fn answer(
        &self,
        begun: Instant,
        proof: Option<&Proof>,
        mut turn: SemaphorePermit<'_>,
    ) -> Result<Ready, PrepareError> {
        let (name, record) = (&self.spec.record.name, &self.spec.record);
        let tier = if proof.is_some() { Tier::InPlace } else { self.spec.tier };
        let mut phases = Phases::since(begun);
        phases.end("state");
        let patience = if tier == Tier::Boot { FIRST_ANSWER_BOOT } else { FIRST_ANSWER };
        let (mut session, hello, _) =
            agent::wake(self.hv, name, patience).await.map_err(|why| match why {
                WakeError::Resume(why) => PrepareError::Power(why),
                WakeError::Session(why) => PrepareError::Session(why),
            })?;
        phases.end("wake");
        let guest = match tier {
            Tier::Boot => agent::unused(&hello),
            Tier::InPlace | Tier::Fresh => matches_golden(self.guest, &hello),
        };
        let said = guest.as_ref().copied().map_err(String::as_str);
        let reset = evidence::status(tier, begun.elapsed(), proof, said);
        evidence::log(record, &reset);
        guest.map_err(PrepareError::Guest)?;
        self.claims.pass().await;
        phases.end("pass");
        let (network, station) = (self.links.guest_network(record), self.links.bridged_nic(record));
        let told = network.as_ref().map(|network| &network.resolvers);
        let resolvers = told
            .or(station.as_ref().map(|station| &station.resolvers))
            .cloned()
            .unwrap_or_default();
        rehydrate(&mut session, record, network, true, Timestamp::now())
            .await
            .map_err(PrepareError::Rehydrate)?;
        phases.end("rehydrate");
        // Its address is its own from here on, and the rules that hold it to that come first.
        self.links.open(record).await.map_err(PrepareError::Network)?;
        phases.end("network");
        if let Some(station) = &station {
            // That is a wait for others, and may be long: whoever is next makes its machine meanwhile.
            drop(turn);
            self.leased(&mut session, station).await?;
            turn = self.turns.acquire().await.map_err(|_| PrepareError::Stopping)?;
            phases.end("lease");
        }
        session.warm(WARM).await.map_err(PrepareError::Warm)?;
        phases.end("warm");
        let evidence =
            Evidence { reset: reset.clone(), reuses: self.reuses, resolvers: resolvers.clone() };
        let text = serde_json::to_string(&evidence).map_err(PrepareError::Evidence)?;
        self.hv.park(name, &text).await.map_err(PrepareError::Power)?;
        phases.end("park");
        drop(turn);
        tracing::debug!(machine = %name, tier = tier.as_str(), phases = ?phases.done, "prepared");
        let idle = Idle { reset, nic: record.nic.clone(), resolvers };
        Ok(Ready { session: Some(session), idle })
    }

    async fn leased(
        &self,
        session: &mut Session,
        station: &BridgedNic,
    ) -> Result<(), PrepareError> {
        let message = lease_message(station, LEASE, Timestamp::now());
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => Err(PrepareError::Stopping),
            done = lease(self.hv, &self.spec.record.name, session, message) => {
                done.map_err(PrepareError::Lease)
            }
        }
    }
}

/// Where the time goes, for whoever wants less of it.
struct Phases {
    last: Instant,
    done: Vec<(&'static str, Duration)>,
}

impl Phases {
    fn since(begun: Instant) -> Self {
        Self { last: begun, done: Vec::new() }
    }

    fn end(&mut self, phase: &'static str) {
        let now = Instant::now();
        self.done.push((phase, now.saturating_duration_since(self.last)));
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use agentvm_core::names::DomainName;
    use agentvm_guest_agent::protocol::{ErrorCode, ErrorReport};

    use super::*;

    #[test]
    fn what_a_run_did_to_its_machine_says_nothing_about_the_way() {
        let name = DomainName::from_recorded("vm");
        let full =
            PrepareError::Reset(HvError::NotResettable { name, why: "its disk has grown".into() });
        assert_eq!((full.not_resettable(), full.not_proven()), (Some("its disk has grown"), None));
        assert!(!full.speaks_against(Tier::InPlace));
        let refused =
            PrepareError::Reset(HvError::Refused { what: "reset it".into(), detail: "no".into() });
        assert!(refused.not_resettable().is_none() && refused.speaks_against(Tier::InPlace));
    }

    #[test]
    fn what_a_network_lacks_says_nothing_about_the_way_either() {
        let refused = ClientError::Refused(ErrorReport {
            code: ErrorCode::Failed,
            message: "no DHCP server".into(),
            nonce: None,
            challenge: None,
        });
        let unleased = PrepareError::Lease(Unleased::Guest(refused));
        assert_eq!(unleased.reason(), PoolReason::NetworkUnavailable);
        assert!(!unleased.speaks_against(Tier::InPlace) && !unleased.speaks_against(Tier::Fresh));
    }
}
