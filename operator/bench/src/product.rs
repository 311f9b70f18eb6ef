//! agentvm's own ways back to the golden state, through the calls that its operator makes.

use std::sync::Arc;
use std::time::Duration;

use agentvm_core::names::{DomainName, GoldenKey};
use agentvm_hypervisor::{
    Golden, MachineKind, MachineLimits, MachineRecord, MachineSpec, Stop, Tier,
};
use agentvm_types::{Nonce, OwnerUid, PoolUid, Token};
use jiff::Timestamp;
use tokio::time::Instant;

use super::error::{BenchError, step};
use super::guest::{self, LOAD};
use super::lab::{Lab, OWNER};
use super::rounds::{Contender, Round};
use agentvm_operator::agent::{Session, fresh_nonce, matches_golden, wake};
use agentvm_operator::clock::Clock;

/// The limit of a machine's share.
const SHARE_BYTES: u64 = 64 << 20;

/// The record of a machine without a pool and without an incarnation yet.
pub fn record(lab: &Lab, golden: &GoldenKey, slot: u32) -> MachineRecord {
    MachineRecord {
        name: DomainName::for_slot(&lab.instance, &PoolUid::new("bench"), slot),
        instance: lab.instance.clone(),
        kind: MachineKind::Pool,
        namespace: "bench".to_owned(),
        owner: "bench".to_owned(),
        owner_uid: OwnerUid::new(OWNER),
        slot,
        golden: golden.clone(),
        nonce: Nonce::from_bytes([0; 16]),
        token: Token::default(),
        created: Timestamp::now().as_second(),
        nic: None,
    }
}

/// A machine without a pool.
pub struct Machine {
    pub lab: Arc<Lab>,
    pub spec: MachineSpec,
    /// The description that the golden's agent gave of itself.
    guest: String,
    /// The session with the agent, from its first answer on.
    pub session: Option<Session>,
}

impl Machine {
    /// Makes nothing on the host yet.
    pub fn new(lab: &Arc<Lab>, golden: &Golden, slot: u32) -> Result<Self, BenchError> {
        let spec = MachineSpec {
            record: record(lab, &golden.key, slot),
            share_bytes: SHARE_BYTES,
            tier: Tier::Fresh,
            limits: MachineLimits::default(),
        };
        let mut machine =
            Self { lab: lab.clone(), spec, guest: golden.guest.clone(), session: None };
        machine.incarnate()?;
        Ok(machine)
    }

    /// Begins another incarnation.
    pub fn incarnate(&mut self) -> Result<(), BenchError> {
        let random = || fresh_nonce().map_err(step("get random bytes"));
        (self.spec.record.nonce, self.spec.record.token) = (random()?, random()?.into());
        self.session = None;
        Ok(())
    }

    pub fn name(&self) -> &DomainName {
        &self.spec.record.name
    }

    pub async fn create(&mut self) -> Result<(), BenchError> {
        let (lab, record) = (&self.lab, &mut self.spec.record);
        record.nic = lab
            .network
            .nic(&record.name, &lab.attachment())
            .await
            .map_err(step("connect a machine"))?;
        self.lab.hv.create(&self.spec).await.map_err(step("create a machine"))
    }

    pub async fn destroy(&self) -> Result<(), BenchError> {
        self.lab.hv.destroy(self.name(), Stop::Force).await.map_err(step("destroy a machine"))?;
        self.lab.network.free_address(self.name());
        Ok(())
    }

    pub async fn resume(&self) -> Result<(), BenchError> {
        self.lab.hv.resume(self.name()).await.map_err(step("resume a machine"))
    }

    pub async fn pause(&self) -> Result<(), BenchError> {
        self.lab.hv.pause(self.name()).await.map_err(step("pause a machine"))
    }

    /// Resumes the machine and takes its agent's first answer. The answer must be the golden's: it
    /// is the second half of the proof. Returns the time of the resume.
    pub async fn wake(&mut self) -> Result<Instant, BenchError> {
        let woken = wake(&*self.lab.hv, self.name(), &Clock::system(), guest::PATIENCE).await;
        let (session, hello, running) = woken.map_err(step(format!("wake {}", self.name())))?;
        matches_golden(&self.guest, &hello)
            .map_err(|why| BenchError::Found(format!("{} is not proven: {why}", self.name())))?;
        self.session = Some(session);
        Ok(running)
    }

    /// Makes a machine in the state of a pool's idle machine: created, identified, warmed and
    /// parked.
    pub async fn prepare(&mut self) -> Result<(), BenchError> {
        self.create().await?;
        self.wake().await?;
        if let Some(session) = &mut self.session {
            guest::warm(session, &self.lab.network, &self.spec.record).await?;
        }
        let parked = self.lab.hv.park(self.name(), "bench").await;
        parked.map_err(step("park a machine"))
    }

    /// Lets a run leave its traces. Makes the machine first if it is missing, and keeps the session
    /// after its first answer.
    pub async fn used(&mut self) -> Result<(), BenchError> {
        if self.session.is_none() {
            self.create().await?;
            self.wake().await?;
        }
        self.resume().await?;
        let mut session = self
            .session
            .take()
            .ok_or_else(|| BenchError::Found("there is no session with the machine".to_owned()))?;
        guest::run(&mut session, &self.lab.network, &self.spec.record, true, LOAD).await.map(drop)
    }
}

/// A reset in place: the same process.
pub struct InPlace(pub Machine);

#[async_trait::async_trait(?Send)]
impl Contender for InPlace {
    fn name(&self) -> &'static str {
        "in_place"
    }

    async fn round(&mut self) -> Result<Round, BenchError> {
        let machine = &mut self.0;
        machine.used().await?;
        machine.incarnate()?;
        let began = Instant::now();
        let proof =
            machine.lab.hv.reset(&machine.spec).await.map_err(step("reset a machine in place"))?;
        if let Some(why) = proof.failure() {
            return Err(BenchError::Found(format!("a machine was reset and not proven: {why}")));
        }
        let reset = began.elapsed();
        let restored = machine.wake().await?.saturating_duration_since(began);
        let ready = began.elapsed();
        machine.pause().await?;
        let mut round = Round::default().figure("restored", restored).figure("ready", ready);
        for (step, took) in &proof.steps {
            round = round.phase(format!("{step:?}").to_lowercase(), *took);
        }
        let unseen = reset.saturating_sub(proof.took());
        Ok(round
            .phase("between steps", unseen)
            .phase("resume", restored.saturating_sub(reset))
            .phase("hello", ready.saturating_sub(restored)))
    }
}

/// A fresh process in place of the one before.
pub struct Fresh(pub Machine);

#[async_trait::async_trait(?Send)]
impl Contender for Fresh {
    fn name(&self) -> &'static str {
        "fresh"
    }

    async fn round(&mut self) -> Result<Round, BenchError> {
        let machine = &mut self.0;
        machine.used().await?;
        let mut laps = Laps::start();
        machine.destroy().await?;
        laps.lap("destroy");
        machine.incarnate()?;
        machine.create().await?;
        laps.lap("create");
        let running = machine.wake().await?;
        let restored = laps.lap_at("resume", running);
        let ready = laps.lap("hello");
        machine.pause().await?;
        Ok(laps.into_round().figure("restored", restored).figure("ready", ready))
    }
}

/// Times from the beginning, and of each step.
#[derive(Debug)]
pub struct Laps {
    began: Instant,
    last: Duration,
    round: Round,
}

impl Laps {
    pub fn start() -> Self {
        Self { began: Instant::now(), last: Duration::ZERO, round: Round::default() }
    }

    /// Ends a step now. Returns the time since the beginning.
    pub fn lap(&mut self, phase: &str) -> Duration {
        self.lap_at(phase, Instant::now())
    }

    /// Ends a step at that time.
    pub fn lap_at(&mut self, phase: &str, at: Instant) -> Duration {
        let now = at.saturating_duration_since(self.began);
        self.round = std::mem::take(&mut self.round).phase(phase, now.saturating_sub(self.last));
        self.last = now;
        now
    }

    pub fn into_round(self) -> Round {
        self.round
    }
}
