//! What others do on libvirt to get a machine back: revert a snapshot, restore a saved image, boot.

use std::sync::Arc;

use agentvm_core::names::{DomainName, GoldenKey};
use agentvm_hypervisor::MachineRecord;
use agentvm_hypervisor::libvirt::Baseline;
use agentvm_types::Nonce;

use super::error::{BenchError, step};
use super::guest::{self, LOAD, Ran};
use super::lab::Lab;
use super::product::{Laps, record};
use super::rounds::{Contender, Round};
use agentvm_operator::agent::{Session, fresh_nonce, quiesce, rehydrate};

/// A boot takes so long that a few show what it takes.
const BOOTS: usize = 5;

/// How an ordinary domain gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Revert,
    Restore,
    Boot,
}

impl Way {
    pub fn name(self) -> &'static str {
        match self {
            Self::Revert => "libvirt_revert",
            Self::Restore => "libvirt_restore",
            Self::Boot => "cold_boot",
        }
    }

    /// How many of `n` rounds are enough.
    pub fn rounds(self, n: usize) -> usize {
        if self == Self::Boot { n.min(BOOTS) } else { n }
    }
}

/// An ordinary domain.
pub struct Ordinary {
    pub way: Way,
    /// With its agent, between a first answer and the next time it gets back.
    pub session: Option<Session>,
    lab: Arc<Lab>,
    baseline: Baseline,
    /// For what the agent is told; libvirt knows nothing of it.
    record: MachineRecord,
    /// A shell command that comes before the snapshot.
    setup: Option<String>,
}

impl Ordinary {
    pub fn new(
        lab: &Arc<Lab>,
        way: Way,
        memory_mib: u32,
        setup: Option<String>,
    ) -> Result<Self, BenchError> {
        let baseline = lab.baseline(&format!("{}-{memory_mib}", way.name()), memory_mib);
        let record = MachineRecord {
            token: random()?.into(),
            ..record(lab, &GoldenKey::derive(&["none"]), 0)
        };
        Ok(Self { lab: lab.clone(), baseline, way, record, setup, session: None })
    }

    fn machine(&self) -> &DomainName {
        self.baseline.name()
    }

    /// Boots it and makes what it gets back to.
    pub async fn prepare(&mut self) -> Result<(), BenchError> {
        self.boot().await?;
        self.hello().await?;
        if self.way == Way::Boot {
            return Ok(());
        }
        let mut session = self.take()?;
        if let Some(setup) = self.setup.clone() {
            self.identity(&mut session).await?;
            self.execute(&mut session, &setup).await?;
        }
        quiesce(&mut session).await.map_err(step("quiesce an ordinary domain"))?;
        drop(session);
        match self.way {
            Way::Revert => self.baseline.snapshot().await.map_err(step("take a snapshot"))?,
            Way::Restore => self.baseline.save().await.map_err(step("save a domain"))?,
            Way::Boot => {}
        }
        self.hello().await
    }

    /// A run has left its traces in it.
    pub async fn used(&mut self) -> Result<(), BenchError> {
        if self.session.is_none() {
            self.prepare().await?;
        }
        self.lab.hv.resume(self.machine()).await.map_err(step("resume an ordinary domain"))?;
        let mut session = self.take()?;
        self.identity(&mut session).await?;
        self.execute(&mut session, LOAD).await.map(drop)
    }

    /// Its way back, until its vCPUs run again.
    pub async fn back(&self) -> Result<(), BenchError> {
        match self.way {
            Way::Revert => self.baseline.revert().await.map_err(step("revert to a snapshot")),
            Way::Restore => self.baseline.restore().await.map_err(step("restore a domain")),
            Way::Boot => self.boot().await,
        }
    }

    async fn boot(&self) -> Result<(), BenchError> {
        self.baseline.boot().await.map_err(step("boot an ordinary domain"))
    }

    pub async fn hello(&mut self) -> Result<(), BenchError> {
        self.session = Some(guest::hello(&*self.lab.hv, self.machine()).await?);
        Ok(())
    }

    pub fn take(&mut self) -> Result<Session, BenchError> {
        self.session
            .take()
            .ok_or_else(|| BenchError::Found("nobody talks to an ordinary domain".to_owned()))
    }

    /// Another incarnation, as far as its agent is concerned.
    pub async fn identity(&mut self, session: &mut Session) -> Result<(), BenchError> {
        self.record.nonce = random()?;
        rehydrate(session, &self.record, None, false, jiff::Timestamp::now())
            .await
            .map_err(step("give the machine its identity"))
    }

    pub async fn execute(&self, session: &mut Session, command: &str) -> Result<Ran, BenchError> {
        guest::execute(session, &self.record, &["/bin/sh", "-c", command]).await
    }

    /// So that it doesn't take part in what is measured next.
    pub async fn pause(&self) -> Result<(), BenchError> {
        self.lab.hv.pause(self.machine()).await.map_err(step("pause an ordinary domain"))
    }

    pub async fn remove(&self) -> Result<(), BenchError> {
        self.baseline.remove().await.map_err(step("remove an ordinary domain"))
    }
}

fn random() -> Result<Nonce, BenchError> {
    fresh_nonce().map_err(step("get random bytes"))
}

#[async_trait::async_trait(?Send)]
impl Contender for Ordinary {
    fn name(&self) -> &'static str {
        self.way.name()
    }

    fn wanted(&self, n: usize) -> usize {
        self.way.rounds(n)
    }

    async fn round(&mut self) -> Result<Round, BenchError> {
        self.used().await?;
        let mut laps = Laps::start();
        self.back().await?;
        let restored = laps.lap(self.way.name());
        self.hello().await?;
        let ready = laps.lap("hello");
        self.pause().await?;
        let round = laps.into_round();
        // vCPUs that begin to boot have restored nothing.
        let round = if self.way == Way::Boot { round } else { round.figure("restored", restored) };
        Ok(round.figure("ready", ready))
    }
}
