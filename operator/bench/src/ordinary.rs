//! The usual ways on libvirt to get a machine back: revert a snapshot, restore a saved image, boot.

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

/// A boot takes so long that a few rounds suffice.
const BOOTS: usize = 5;

/// The way in which an ordinary domain gets back.
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

    /// The number of rounds, of `n`, that suffice.
    pub fn rounds(self, n: usize) -> usize {
        if self == Self::Boot { n.min(BOOTS) } else { n }
    }
}

/// An ordinary domain.
pub struct Ordinary {
    pub way: Way,
    /// The session with its agent, between its first answer and its next return to the snapshot.
    pub session: Option<Session>,
    lab: Arc<Lab>,
    baseline: Baseline,
    /// The identity that the agent gets. libvirt does not know it.
    record: MachineRecord,
    /// A shell command that runs before the snapshot.
    setup: Option<String>,
}

impl Ordinary {
    pub fn new(
        lab: &Arc<Lab>,
        way: Way,
        memory_mib: u32,
        setup: Option<String>,
    ) -> Result<Self, BenchError> {
        Self::numbered(lab, way, memory_mib, setup, 0)
    }

    /// One of several domains of the same size.
    pub fn numbered(
        lab: &Arc<Lab>,
        way: Way,
        memory_mib: u32,
        setup: Option<String>,
        number: u32,
    ) -> Result<Self, BenchError> {
        let name = match number {
            0 => format!("{}-{memory_mib}", way.name()),
            _ => format!("{}-{memory_mib}-{number}", way.name()),
        };
        let baseline = lab.baseline(&name, memory_mib);
        let record = MachineRecord {
            token: random()?.into(),
            ..record(lab, &GoldenKey::derive(&["none"]), 0)
        };
        Ok(Self { lab: lab.clone(), baseline, way, record, setup, session: None })
    }

    fn machine(&self) -> &DomainName {
        self.baseline.name()
    }

    /// Boots it and makes the state to which it returns.
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

    /// Lets a run leave its traces in it.
    pub async fn used(&mut self) -> Result<(), BenchError> {
        if self.session.is_none() {
            self.prepare().await?;
        }
        self.lab.hv.resume(self.machine()).await.map_err(step("resume an ordinary domain"))?;
        let mut session = self.take()?;
        self.identity(&mut session).await?;
        self.execute(&mut session, LOAD).await.map(drop)
    }

    /// Returns to the saved state, until the vCPUs run again.
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
        self.session.take().ok_or_else(|| {
            BenchError::Found("there is no session with an ordinary domain".to_owned())
        })
    }

    /// Gives the agent another incarnation.
    pub async fn identity(&mut self, session: &mut Session) -> Result<(), BenchError> {
        self.record.nonce = random()?;
        rehydrate(session, &self.record, None, false, jiff::Timestamp::now())
            .await
            .map_err(step("give the machine its identity"))
    }

    pub async fn execute(&self, session: &mut Session, command: &str) -> Result<Ran, BenchError> {
        guest::execute(session, &self.record, &["/bin/sh", "-c", command]).await
    }

    /// Stops the machine, so that it does not disturb the next measurement.
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
        // vCPUs that begin to boot have restored nothing, so a boot has no such figure.
        let round = if self.way == Way::Boot { round } else { round.figure("restored", restored) };
        Ok(round.figure("ready", ready))
    }
}
