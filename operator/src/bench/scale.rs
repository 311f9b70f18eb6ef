//! `agentvm bench scale`: what finished runs and more machines do to a claim, to the operator's memory and to the API server.

use std::sync::Arc;

use agentvm_crds::AgentRun;
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::GetParams;
use kube::core::Request;
use serde_json::json;
use tokio::time::Instant;

use super::density::mebibytes;
use super::error::{BenchError, step};
use super::full::Full;
use super::lab::Lab;
use super::report::{Report, Unit};
use super::rounds::{bar, millis};

/// Warm machines, with few finished runs.
const MACHINES: [u32; 3] = [1, 4, 16];
/// Finished runs, with [`BESIDE`] machines.
const OBJECTS: [usize; 3] = [10, 100, 1000];
const BESIDE: u32 = 4;
/// Objects that are made at the same time.
const AT_ONCE: usize = 16;

/// One size after the other; each is measured `n` times.
pub async fn run(lab: &Arc<Lab>, full: Full, memory_mib: u32, n: usize) -> Result<Report, BenchError> {
    let bar = bar("scale", (MACHINES.len() + OBJECTS.len()) * n);
    let mut scale = Scale { full, report: Report::new("scale", lab.host()), finished: 0, next: 0, bar };
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
        "machines of {memory_mib} MiB; claimed: from before the create of a run to a watcher that sees its claim; objects: finished \
         runs that are kept (they were cancelled at once), and those of the bench; api_writes: to runs and Events, the user's create \
         included, for each run, as kube-apiserver counts them; rss: of this process, operator and bench"
    ));
    Ok(report)
}

struct Scale {
    full: Full,
    report: Report,
    /// Runs that are over.
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
        // The first is for warming up.
        self.one(None, machines).await?;
        let before = writes(&self.full).await?;
        for _ in 0..n {
            self.one(Some(label), machines).await?;
            self.bar.inc(1);
        }
        // The Event of a run comes after its end.
        self.full.settled(machines).await?;
        let written = writes(&self.full).await?.saturating_sub(before);
        // Neither comes near what a float can count.
        #[allow(clippy::cast_precision_loss)]
        self.report.add(&format!("{label}/api_writes"), Unit::Count, written as f64 / n as f64);
        self.report.add(&format!("{label}/rss"), Unit::Mebibytes, mebibytes(resident()));
        Ok(())
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
            let took = at.map(|at: Instant| at.saturating_duration_since(began)).unwrap_or_default();
            self.report.add(&format!("{label}/{figure}"), Unit::Millis, millis(took));
        }
        Ok(())
    }
}

/// Writes to runs and Events that the API server has counted.
async fn writes(full: &Full) -> Result<u64, BenchError> {
    let request = Request::new("").get("metrics", &GetParams::default()).map_err(step("ask for metrics"))?;
    let text = full.client.request_text(request).await.map_err(step("read the API server's metrics"))?;
    Ok(count_writes(&text))
}

fn count_writes(metrics: &str) -> u64 {
    let counted = metrics.lines().filter(|line| line.starts_with("apiserver_request_total{"));
    let ours = counted.filter(|line| {
        let has =
            |label: &str, values: &[&str]| values.iter().any(|value| line.contains(&format!("{label}=\"{value}\"")));
        has("resource", &["agentruns", "events"]) && has("verb", &["POST", "PUT", "PATCH", "APPLY", "DELETE"])
    });
    // The number is a float in text, and a whole one.
    ours.filter_map(|line| line.rsplit(' ').next()?.split('.').next()?.parse::<u64>().ok()).sum()
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
    fn writes_to_runs_and_events_are_counted() {
        let metrics = r#"
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",group="agentvm.dev",resource="agentruns",scope="resource",subresource="status",verb="PUT"} 12
apiserver_request_total{code="201",group="agentvm.dev",resource="agentruns",scope="resource",subresource="",verb="POST"} 4
apiserver_request_total{code="201",group="events.k8s.io",resource="events",scope="resource",verb="POST"} 4
apiserver_request_total{code="200",group="agentvm.dev",resource="agentruns",scope="cluster",verb="WATCH"} 9
apiserver_request_total{code="200",group="agentvm.dev",resource="agentvmpools",scope="resource",verb="PUT"} 7
apiserver_request_total{code="200",group="coordination.k8s.io",resource="leases",scope="resource",verb="PUT"} 1e+06
"#;
        assert_eq!(count_writes(metrics), 20);
        assert!(resident() > 1 << 20);
    }
}
