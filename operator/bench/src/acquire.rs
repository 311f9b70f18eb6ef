//! `agentvm bench acquire`: measures from a durable claim to the agent's acknowledgement of the
//! command.
//!
//! Runs go through the whole product, and its own status has the times. For comparison: the time of
//! one write to the API server, and of a machine that is reverted or booted on demand.

use std::sync::Arc;

use agentvm_crds::AgentRun;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use super::error::{BenchError, step};
use super::full::{Full, status_time};
use super::lab::Lab;
use super::ordinary::{Ordinary, Way};
use super::product::Laps;
use super::report::Report;
use super::rounds::{Contender, Round, alternate};

/// With this many machines, one is always ready for the next run.
const POOL: u32 = 4;
/// Rounds of a revert. They need not give a 99th percentile.
const REVERTS: usize = 20;
/// A run that ended, for writes to its status.
const PROBE: &str = "probe";

/// Measures all contenders in turn.
pub async fn run(
    lab: &Arc<Lab>,
    full: Full,
    memory_mib: u32,
    n: usize,
) -> Result<Report, BenchError> {
    let mut report = Report::new("acquire", lab.host());
    full.pool(memory_mib, POOL, POOL).await?;
    full.create::<AgentRun>(PROBE, json!({"command": ["true"], "desiredState": "Cancelled"}))
        .await?;
    full.finished(PROBE).await?;
    let full = Arc::new(full);
    let mut contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(Warm { full: full.clone(), next: 0 }),
        Box::new(StatusWrite { full, next: 0 }),
    ];
    for way in [Way::Revert, Way::Boot] {
        contenders.push(Box::new(OnDemand(Ordinary::new(lab, way, memory_mib, None)?)));
    }
    alternate(&mut contenders, n, "", &mut report).await?;
    report.compare(&[
        ("libvirt_revert/warm", "libvirt_revert/acknowledged", "warm/acknowledged"),
        ("cold_boot/warm", "cold_boot/acknowledged", "warm/acknowledged"),
    ]);
    report.notes.push(format!(
        "warm: acquireMillis and startMillis of a run's status, whole milliseconds: claim durable, \
         machine of {memory_mib} MiB resumed, input written, EXECUTE acknowledged; api: one write \
         to a run's status and its answer; libvirt_revert and cold_boot: from the call to EXECUTE \
         acknowledged"
    ));
    Ok(report)
}

/// A run that finds a warm machine.
struct Warm {
    full: Arc<Full>,
    next: usize,
}

#[async_trait::async_trait(?Send)]
impl Contender for Warm {
    fn name(&self) -> &'static str {
        "warm"
    }

    async fn round(&mut self) -> Result<Round, BenchError> {
        // Wait until no other machine is being prepared. `run --rate` shows the time of a claim
        // beside such work.
        self.full.settled(POOL).await?;
        self.next += 1;
        let name = format!("run-{}", self.next);
        self.full.start(&name).await?;
        let seen = self.full.succeeded(&name).await?;
        let timings = seen
            .timings()
            .ok_or_else(|| BenchError::Found(format!("the status of {name} has no times")))?;
        let (acquire, start) =
            (status_time(timings.acquire_millis), status_time(timings.start_millis));
        Ok(Round::default()
            .figure("acknowledged", acquire + start)
            .phase("acquire", acquire)
            .phase("start", start))
    }
}

/// One write and its answer, which are part of a claim.
struct StatusWrite {
    full: Arc<Full>,
    next: usize,
}

#[async_trait::async_trait(?Send)]
impl Contender for StatusWrite {
    fn name(&self) -> &'static str {
        "api"
    }

    async fn round(&mut self) -> Result<Round, BenchError> {
        self.next += 1;
        let patch = Patch::Merge(json!({"status": {"stdout": self.next.to_string()}}));
        let began = Instant::now();
        let written =
            self.full.api::<AgentRun>().patch_status(PROBE, &PatchParams::default(), &patch).await;
        written.map_err(step("write a status"))?;
        Ok(Round::default().figure("status_write", began.elapsed()))
    }
}

/// A machine that is made ready only on demand.
struct OnDemand(Ordinary);

#[async_trait::async_trait(?Send)]
impl Contender for OnDemand {
    fn name(&self) -> &'static str {
        self.0.way.name()
    }

    fn wanted(&self, n: usize) -> usize {
        self.0.way.rounds(n.min(REVERTS))
    }

    async fn round(&mut self) -> Result<Round, BenchError> {
        self.0.used().await?;
        let mut laps = Laps::start();
        self.0.back().await?;
        laps.lap(self.0.way.name());
        self.0.hello().await?;
        laps.lap("hello");
        let mut session = self.0.take()?;
        self.0.identity(&mut session).await?;
        let sent = laps.lap("rehydrate");
        let ran = self.0.execute(&mut session, "true").await?;
        self.0.session = Some(session);
        self.0.pause().await?;
        Ok(laps
            .into_round()
            .phase("execute", ran.acknowledged)
            .figure("acknowledged", sent + ran.acknowledged))
    }
}
