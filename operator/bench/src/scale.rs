//! `agentvm bench scale`: measures the effect of finished runs and of machines on a claim, on the
//! operator's memory and on the API server.

use std::sync::Arc;

use agentvm_crds::AgentRun;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::time::Instant;

use super::counters::Counters;
use super::density::mebibytes;
use super::error::BenchError;
use super::full::Full;
use super::lab::Lab;
use super::report::{Report, Unit};
use super::rounds::{bar, millis};

/// Numbers of warm machines, with few finished runs.
const MACHINES: [u32; 3] = [1, 4, 16];
/// Numbers of finished runs, with [`BESIDE`] machines.
const OBJECTS: [usize; 3] = [10, 100, 1000];
const BESIDE: u32 = 4;
/// The number of objects that are created at the same time.
const AT_ONCE: usize = 16;

/// Measures one size after the other, each `n` times.
pub async fn run(
    lab: &Arc<Lab>,
    full: Full,
    memory_mib: u32,
    n: usize,
) -> Result<Report, BenchError> {
    let bar = bar("scale", (MACHINES.len() + OBJECTS.len()) * n);
    let mut scale =
        Scale { full, report: Report::new("scale", lab.host()), finished: 0, next: 0, bar };
    scale.fill_up(OBJECTS[0]).await?;
    for machines in MACHINES {
        if machines == MACHINES[0] {
            scale.full.pool(memory_mib, machines, machines).await?;
        } else {
            scale.full.resize(machines, machines).await?;
        }
        scale.measure(&format!("machines_{machines}"), machines, n).await?;
    }
    scale.full.resize(BESIDE, BESIDE).await?;
    for objects in OBJECTS {
        scale.fill_up(objects).await?;
        scale.measure(&format!("objects_{objects}"), BESIDE, n).await?;
    }
    scale.bar.finish_and_clear();
    let mut report = scale.report;
    report.compare(&[
        ("claim_objects_100/10", "objects_100/claimed", "objects_10/claimed"),
        ("claim_objects_1000/100", "objects_1000/claimed", "objects_100/claimed"),
        ("claim_machines_16/1", "machines_16/claimed", "machines_1/claimed"),
    ]);
    report.notes.push(format!(
        "machines of {memory_mib} MiB; claimed: from before the create of a run to a watcher that \
         sees its claim; objects: finished runs that are kept (they were cancelled at once), and \
         the runs of the bench; api_writes: to runs and Events, the user's create included, for \
         each run, counted by kube-apiserver; reconcile_mean: of the operator's reconciles of \
         runs, by its own metrics; rss: of this process, operator and bench"
    ));
    Ok(report)
}

struct Scale {
    full: Full,
    report: Report,
    /// Runs that ended.
    finished: usize,
    next: usize,
    bar: indicatif::ProgressBar,
}

impl Scale {
    /// Makes finished runs until there are `wanted`.
    async fn fill_up(&mut self, wanted: usize) -> Result<(), BenchError> {
        let full = &self.full;
        let names: Vec<String> = (self.finished..wanted).map(|n| format!("old-{n}")).collect();
        let made = stream::iter(&names).map(|name| async move {
            let spec = json!({"command": ["true"], "desiredState": "Cancelled"});
            full.create::<AgentRun>(name, spec).await.map(drop)
        });
        made.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        for name in &names {
            self.full.finished(name).await?;
        }
        self.finished = self.finished.max(wanted);
        Ok(())
    }

    async fn measure(&mut self, label: &str, machines: u32, n: usize) -> Result<(), BenchError> {
        self.bar.set_message(label.to_owned());
        // The first one warms up.
        self.one(None, machines).await?;
        let before = self.counters().await?;
        for _ in 0..n {
            self.one(Some(label), machines).await?;
            self.bar.inc(1);
        }
        // The Event of a run comes after its end.
        self.full.settled(machines).await?;
        let after = self.counters().await?;
        // A float holds the value without a loss of precision.
        #[allow(clippy::cast_precision_loss)]
        let writes = (after.writes - before.writes) / n as f64;
        self.report.add(&format!("{label}/api_writes"), Unit::Count, writes);
        let reconciles = (after.reconciles - before.reconciles).max(1.0);
        let mean = (after.reconcile_seconds - before.reconcile_seconds) / reconciles * 1000.0;
        self.report.add(&format!("{label}/reconcile_mean"), Unit::Millis, mean);
        self.report.add(&format!("{label}/rss"), Unit::Mebibytes, mebibytes(resident()));
        Ok(())
    }

    async fn counters(&self) -> Result<Counters, BenchError> {
        let operator = self
            .full
            .metrics
            .ok_or_else(|| BenchError::Found("the operator has no metrics".to_owned()))?;
        Counters::read(&self.full.client, operator).await
    }

    async fn one(&mut self, label: Option<&str>, machines: u32) -> Result<(), BenchError> {
        self.full.settled(machines).await?;
        self.next += 1;
        let name = format!("run-{}", self.next);
        let began = self.full.start(&name).await?;
        let seen = self.full.succeeded(&name).await?;
        self.finished += 1;
        let Some(label) = label else { return Ok(()) };
        for (figure, at) in [("claimed", seen.claimed), ("succeeded", seen.finished)] {
            let took =
                at.map(|at: Instant| at.saturating_duration_since(began)).unwrap_or_default();
            self.report.add(&format!("{label}/{figure}"), Unit::Millis, millis(took));
        }
        Ok(())
    }
}

/// Bytes of memory that this process holds.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|kib| kib.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_what_it_holds() {
        assert!(resident() > 1 << 20);
    }
}
