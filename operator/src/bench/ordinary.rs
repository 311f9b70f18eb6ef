//! What others do on libvirt to get a machine back: revert a snapshot, restore a saved image, boot.

use std::sync::Arc;

use agentvm_core::names::{DomainName, GoldenKey};
use agentvm_hypervisor::libvirt::Baseline;
use agentvm_hypervisor::{MachineRecord, Tier};

use super::error::{BenchError, step};
use super::guest::{self, LOAD};
use super::lab::Lab;
use super::product::{Laps, Machine};
use super::rounds::{Contender, Round};
use crate::goldens::quiesce;
use crate::machines::{Session, fresh_nonce};

/// A boot takes so long that a few show what it takes.
const BOOTS: usize = 5;

/// How an ordinary domain gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Revert,
    Restore,
    Boot,
}

/// An ordinary domain.
pub struct Ordinary {
    lab: Arc<Lab>,
    baseline: Baseline,
    way: Way,
    /// For what the agent is told; libvirt knows nothing of it.
    record: MachineRecord,
    /// A shell command that comes before the snapshot.
    setup: Option<String>,
    session: Option<Session>,
}

impl Ordinary {
    pub fn new(lab: &Arc<Lab>, way: Way, memory_mib: u32, setup: Option<String>) -> Result<Self, BenchError> {
        let baseline = lab.baseline(&format!("{}-{memory_mib}", way.name()), memory_mib);
        let record = Machine::new(lab, &GoldenKey::derive(&["none"]), 0, Tier::Fresh)?.spec.record;
        Ok(Self { lab: lab.clone(), baseline, way, record, setup, session: None })
    }

    fn machine(&self) -> &DomainName {
        self.baseline.name()
    }

    async fn hello(&mut self) -> Result<(), BenchError> {
        self.session = Some(guest::hello(&*self.lab.hv, self.machine()).await?);
        Ok(())
    }

    /// Boots it and makes what it gets back to.
    async fn prepare(&mut self) -> Result<(), BenchError> {
        self.baseline.boot().await.map_err(step("boot an ordinary domain"))?;
        self.hello().await?;
        if self.way == Way::Boot {
            return Ok(());
        }
        let mut session = self.take()?;
        if let Some(setup) = self.setup.clone() {
            self.run(&mut session, &setup).await?;
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

    fn take(&mut self) -> Result<Session, BenchError> {
        self.session.take().ok_or_else(|| BenchError::Found("nobody talks to an ordinary domain".to_owned()))
    }

    async fn run(&mut self, session: &mut Session, command: &str) -> Result<(), BenchError> {
        self.record.nonce = fresh_nonce().map_err(step("get random bytes"))?.to_string();
        guest::run(session, &self.record, false, command).await.map(drop)
    }

    async fn dirty(&mut self) -> Result<(), BenchError> {
        self.lab.hv.resume(self.machine()).await.map_err(step("resume an ordinary domain"))?;
        let mut session = self.take()?;
        self.run(&mut session, LOAD).await
    }
}

/// A machine that is booted for one run.
pub struct Boots(Ordinary);

impl Boots {
    /// Rounds that show what it takes.
    pub const FEW: usize = BOOTS;

    pub fn new(lab: &Arc<Lab>, memory_mib: u32) -> Result<Self, BenchError> {
        Ordinary::new(lab, Way::Boot, memory_mib, None).map(Self)
    }

    pub async fn boot(&mut self) -> Result<(), BenchError> {
        self.0.prepare().await
    }

    pub async fn execute(&mut self) -> Result<(), BenchError> {
        let mut session = self.0.take()?;
        self.0.run(&mut session, "true").await
    }

    pub async fn remove(&mut self) -> Result<(), BenchError> {
        self.0.baseline.remove().await.map_err(step("remove an ordinary domain"))
    }
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Revert => "libvirt_revert",
            Self::Restore => "libvirt_restore",
            Self::Boot => "cold_boot",
        }
    }
}

#[async_trait::async_trait(?Send)]
impl Contender for Ordinary {
    fn name(&self) -> &'static str {
        self.way.name()
    }

    fn wanted(&self, n: usize) -> usize {
        if self.way == Way::Boot { n.min(BOOTS) } else { n }
    }

    async fn round(&mut self) -> Result<Round, BenchError> {
        if self.session.is_none() {
            self.prepare().await?;
        }
        self.dirty().await?;
        let mut laps = Laps::start();
        match self.way {
            Way::Revert => self.baseline.revert().await.map_err(step("revert to a snapshot"))?,
            Way::Restore => self.baseline.restore().await.map_err(step("restore a domain"))?,
            Way::Boot => self.baseline.boot().await.map_err(step("boot an ordinary domain"))?,
        }
        let restored = laps.lap(self.way.name());
        self.hello().await?;
        let ready = laps.lap("hello");
        // It must not take part in what is measured next.
        self.lab.hv.pause(self.machine()).await.map_err(step("pause an ordinary domain"))?;
        let round = laps.into_round().figure("ready", ready);
        Ok(if self.way == Way::Boot { round } else { round.figure("restored", restored) })
    }
}
