//! `agentvm bench throughput`: measures a queue of runs that do nothing, on pools of several sizes.
//!
//! There are two figures for each size: runs per second, and the cycle of a machine, from one run
//! to the next. The alternatives have as many machines, and no API: a revert for each run, and a
//! boot for each run.

use std::sync::Arc;

use agentvm_crds::{AgentRun, Timings};
use agentvm_hypervisor::Tier;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::time::Instant;

use super::counters::Counters;
use super::error::BenchError;
use super::full::{Full, Seen, status_time};
use super::lab::Lab;
use super::ordinary::{Ordinary, Way};
use super::report::{Report, Unit};
use super::rounds::{bar, millis};

/// The number of objects that are created at the same time.
const AT_ONCE: usize = 16;
/// An alternative has one of this many of the runs, because it is slower.
const REVERTS: usize = 5;
const BOOTS: usize = 20;

/// Measures one size of the pool after the other, each with a queue of `n` runs.
pub async fn run(
    lab: &Arc<Lab>,
    full: Full,
    memory_mib: u32,
    sizes: &[u32],
    n: usize,
) -> Result<Report, BenchError> {
    let mut report = Report::new("throughput", lab.host());
    let bar = bar("throughput", sizes.len() * 3);
    for (index, machines) in sizes.iter().copied().enumerate() {
        let suffix = format!("@{machines}");
        bar.set_message(format!("agentvm{suffix}"));
        if index == 0 {
            full.pool(memory_mib, machines, machines).await?;
        } else {
            full.resize(machines, machines).await?;
        }
        // The first runs warm up.
        queue(&full, &format!("warm-{machines}"), machines, usize_of(2 * machines)).await?;
        let queued = queue(&full, &format!("run-{machines}"), machines, n).await?;
        queued.note(&suffix, machines, &mut report);
        bar.inc(1);
        // The pool's machines rest while the alternatives run.
        for (way, part) in [(Way::Revert, REVERTS), (Way::Boot, BOOTS)] {
            bar.set_message(format!("{}{suffix}", way.name()));
            let rounds = (n / part).max(usize_of(machines)).div_ceil(usize_of(machines));
            ordinary(lab, way, memory_mib, machines, rounds, &mut report).await?;
            bar.inc(1);
        }
        report.compare(&[
            (
                &format!("agentvm/libvirt_revert{suffix}"),
                &format!("agentvm/runs{suffix}"),
                &format!("libvirt_revert/runs{suffix}"),
            ),
            (
                &format!("agentvm/cold_boot{suffix}"),
                &format!("agentvm/runs{suffix}"),
                &format!("cold_boot/runs{suffix}"),
            ),
            (
                &format!("cycle/reset_and_run{suffix}"),
                &format!("agentvm/cycle{suffix}"),
                &format!("agentvm/reset_and_run{suffix}"),
            ),
        ]);
    }
    bar.finish_and_clear();
    report.notes.push(format!(
        "{n} runs of [true] are created at once on pools of machines of {memory_mib} MiB; runs: \
         from before the first create until a watcher sees the last end; cycle: the time of one \
         machine for one run (machines x time / runs); reset: with the proof; prepare: from there \
         until a run may claim the machine, or until it is parked; wait: the rest, in which the \
         machine waits for a write or for the processor; libvirt_revert and cold_boot: no API, \
         {REVERTS} and {BOOTS} times fewer runs, from the first to the last end"
    ));
    Ok(report)
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The result of one queue.
struct Queue {
    took: std::time::Duration,
    seen: Vec<Seen>,
    /// The mean of a reset and of the preparation behind it, milliseconds.
    prepared: f64,
}

/// Creates all runs at once, and waits until all have succeeded.
async fn queue(full: &Full, prefix: &str, machines: u32, n: usize) -> Result<Queue, BenchError> {
    full.settled(machines).await?;
    let metrics =
        full.metrics.ok_or_else(|| BenchError::Found("the operator has no metrics".to_owned()))?;
    let names: Vec<String> = (0..n).map(|at| format!("{prefix}-{at}")).collect();
    let before = Counters::read(&full.client, metrics).await?;
    let began = Instant::now();
    let made = stream::iter(&names).map(|name| async move {
        full.create::<AgentRun>(name, json!({"command": ["true"]})).await.map(drop)
    });
    made.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    let mut seen = Vec::with_capacity(n);
    for name in &names {
        seen.push(full.succeeded(name).await?);
    }
    let last = seen.iter().filter_map(|run| run.finished).max().unwrap_or(began);
    let after = Counters::read(&full.client, metrics).await?;
    let resets = (after.resets - before.resets).max(1.0);
    let prepared = (after.reset_seconds - before.reset_seconds) / resets * 1000.0;
    Ok(Queue { took: last.saturating_duration_since(began), seen, prepared })
}

impl Queue {
    // Floats hold these numbers without a loss of precision.
    #[allow(clippy::cast_precision_loss)]
    fn note(&self, suffix: &str, machines: u32, report: &mut Report) {
        let n = self.seen.len() as f64;
        report.add(&format!("agentvm/runs{suffix}"), Unit::PerSecond, n / self.took.as_secs_f64());
        let cycle = millis(self.took) * f64::from(machines) / n;
        report.add(&format!("agentvm/cycle{suffix}"), Unit::Millis, cycle);
        let phases = self.phases();
        let of = |wanted: &str| {
            phases.iter().filter(|(name, _)| *name == wanted).map(|(_, mean)| mean).sum::<f64>()
        };
        let run = of("acquire") + of("start") + of("execute") + of("collect");
        report.add(&format!("agentvm/reset_and_run{suffix}"), Unit::Millis, of("reset") + run);
        let known: f64 = phases.iter().map(|(_, mean)| mean).sum();
        let subject = format!("agentvm{suffix}");
        for (phase, mean) in &phases {
            report.add_phase(&subject, phase, *mean);
        }
        report.add_phase(&subject, "wait", (cycle - known).max(0.0));
    }

    /// The means of the steps of a cycle, milliseconds.
    #[allow(clippy::cast_precision_loss)]
    fn phases(&self) -> Vec<(&'static str, f64)> {
        let status = |run: &Seen| run.run.as_ref().and_then(|run| run.status.clone());
        // The first machines were made before the queue, so their proofs are not of this queue.
        let resets: Vec<f64> = self
            .seen
            .iter()
            .filter_map(|run| status(run)?.reset)
            .filter(|reset| reset.tier == Tier::InPlace.as_str())
            .map(|reset| millis(status_time(reset.millis)))
            .collect();
        let reset = resets.iter().sum::<f64>() / (resets.len().max(1) as f64);
        let mean = |of: fn(&Timings) -> i64| {
            let all = self.seen.iter().filter_map(|run| run.timings().map(of));
            let all: Vec<f64> = all.map(|time| millis(status_time(time))).collect();
            all.iter().sum::<f64>() / (all.len().max(1) as f64)
        };
        vec![
            ("reset", reset),
            ("prepare", (self.prepared - reset).max(0.0)),
            ("acquire", mean(|timings| timings.acquire_millis)),
            ("start", mean(|timings| timings.start_millis)),
            ("execute", mean(|timings| timings.execute_millis)),
            ("collect", mean(|timings| timings.collect_millis)),
        ]
    }
}

/// Lets as many ordinary machines have `rounds` runs each.
async fn ordinary(
    lab: &Arc<Lab>,
    way: Way,
    memory_mib: u32,
    machines: u32,
    rounds: usize,
    report: &mut Report,
) -> Result<(), BenchError> {
    let mut all = Vec::new();
    for number in 1..=machines {
        let mut one = Ordinary::numbered(lab, way, memory_mib, None, number)?;
        if way == Way::Revert {
            one.prepare().await?;
        }
        all.push(one);
    }
    let began = Instant::now();
    try_join_all(all.iter_mut().map(|one| async move {
        for _ in 0..rounds {
            cycle(one).await?;
        }
        Ok::<_, BenchError>(())
    }))
    .await?;
    let took = began.elapsed();
    if way == Way::Revert {
        for one in &all {
            one.remove().await?;
        }
    }
    // A float holds the value without a loss of precision.
    #[allow(clippy::cast_precision_loss)]
    let runs = rounds as f64 * f64::from(machines);
    let (name, per_second) = (way.name(), runs / took.as_secs_f64());
    report.add(&format!("{name}/runs@{machines}"), Unit::PerSecond, per_second);
    let cycle = millis(took) * f64::from(machines) / runs;
    report.add(&format!("{name}/cycle@{machines}"), Unit::Millis, cycle);
    Ok(())
}

/// One run on an ordinary machine that gets to its first state for it.
async fn cycle(one: &mut Ordinary) -> Result<(), BenchError> {
    if one.way == Way::Boot {
        one.prepare().await?;
    } else {
        one.back().await?;
        one.hello().await?;
    }
    let mut session = one.take()?;
    one.identity(&mut session).await?;
    one.execute(&mut session, "true").await?;
    if one.way == Way::Boot { one.remove().await } else { Ok(()) }
}
