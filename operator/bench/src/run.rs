//! `agentvm bench run`: measures a command that does nothing, from its creation to the moment when
//! a watcher sees its success.
//!
//! For comparison, the alternatives without agentvm: a machine that is booted for each run, and a
//! container of the guest's root filesystem.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::container::Container;
use super::error::BenchError;
use super::full::{Full, Seen, status_time};
use super::lab::Lab;
use super::ordinary::{Ordinary, Way};
use super::product::Laps;
use super::report::{Report, Unit};
use super::rounds::{Contender, Round, alternate, bar, millis};

/// The number of runs at each end of a long row that are compared.
const ENDS: usize = 50;
/// The number of warm machines.
const POOL: u32 = 2;

/// Measures one run after the other, each with a warm machine.
pub async fn run(
    lab: &Arc<Lab>,
    full: Full,
    memory_mib: u32,
    n: usize,
) -> Result<Report, BenchError> {
    let mut report = Report::new("run", lab.host());
    full.pool(memory_mib, POOL, 2 * POOL).await?;
    let mut contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(Runs { full, next: 0 }),
        Box::new(Boot(Ordinary::new(lab, Way::Boot, memory_mib, None)?)),
    ];
    match Container::find(lab).await? {
        Ok(container) => contenders.push(Box::new(container)),
        Err(why) => report.notes.push(format!("no container to compare with: {why}")),
    }
    alternate(&mut contenders, n, "", &mut report).await?;
    report.compare(&[
        ("cold_boot/agentvm", "cold_boot/succeeded", "agentvm/succeeded"),
        ("runc/agentvm", "runc/succeeded", "agentvm/succeeded"),
    ]);
    report.notes.push(format!(
        "command: [true]; agentvm: from before the create to a watcher that sees Succeeded, etcd \
         syncs every write, pool of {POOL} machines of {memory_mib} MiB; cold_boot and runc: no \
         API, from the start of the machine or container to the exit code, and its removal"
    ));
    Ok(report)
}

struct Runs {
    full: Full,
    next: usize,
}

#[async_trait::async_trait(?Send)]
impl Contender for Runs {
    fn name(&self) -> &'static str {
        "agentvm"
    }

    async fn round(&mut self) -> Result<Round, BenchError> {
        self.full.settled(POOL).await?;
        self.next += 1;
        let name = format!("run-{}", self.next);
        let began = self.full.start(&name).await?;
        let created = began.elapsed();
        let seen = self.full.succeeded(&name).await?;
        let took = |until: Option<Instant>| {
            until.map(|at| at.saturating_duration_since(began)).unwrap_or_default()
        };
        let round = Round::default()
            .figure("claimed", took(seen.claimed))
            .figure("succeeded", took(seen.finished));
        Ok(phases(round.phase("create (API)", created), &seen))
    }
}

/// The times of the steps, from the status. The time in the queue is missing, because an object has
/// only the second of its creation.
fn phases(round: Round, seen: &Seen) -> Round {
    let Some(timings) = seen.timings() else { return round };
    let steps = [
        ("acquire", timings.acquire_millis),
        ("start", timings.start_millis),
        ("execute", timings.execute_millis),
        ("collect", timings.collect_millis),
    ];
    steps.into_iter().fold(round, |round, (step, millis)| round.phase(step, status_time(millis)))
}

/// Starts `rate` runs a second for `seconds`, without a wait for earlier runs.
pub async fn at_a_rate(
    lab: &Arc<Lab>,
    full: Full,
    memory_mib: u32,
    rate: f64,
    seconds: u32,
) -> Result<Report, BenchError> {
    let mut report = Report::new("run", lab.host());
    full.pool(memory_mib, POOL, POOL).await?;
    let period = Duration::from_secs_f64(1.0 / rate);
    let count = (f64::from(seconds) * rate).round().max(1.0);
    // The ranges of the flags bound this number.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let count = count as usize;
    let bar = bar("run", count);
    let mut began = Vec::new();
    let mut due = Instant::now();
    for n in 0..count {
        sleep_until(due).await;
        due += period;
        began.push(full.start(&format!("run-{n}")).await?);
        bar.inc(1);
    }
    let mut failed = Vec::new();
    for (n, began) in began.into_iter().enumerate() {
        let seen = full.finished(&format!("run-{n}")).await?;
        let took = seen.finished.map(|at| millis(at.saturating_duration_since(began)));
        match took {
            Some(took) if seen.succeeded => {
                report.add("rate/succeeded", Unit::Millis, took);
                report.add("rate/acknowledged", Unit::Millis, acknowledged(&seen));
            }
            _ => failed.push(format!("run-{n}: {}", seen.reason)),
        }
    }
    bar.finish_and_clear();
    summarize(&mut report, &failed);
    report.notes.push(format!(
        "{rate} runs a second for {seconds} s through a pool of {POOL} machines of {memory_mib} MiB"
    ));
    Ok(report)
}

/// The time from the durable claim to the agent's acknowledgement, from the status: two whole
/// numbers of milliseconds.
fn acknowledged(seen: &Seen) -> f64 {
    let both = seen.timings().map_or(0, |t| t.acquire_millis.saturating_add(t.start_millis));
    millis(status_time(both))
}

fn summarize(report: &mut Report, failed: &[String]) {
    let all = report.samples("rate/succeeded").cloned().unwrap_or_default();
    // A short row is cut into halves, so that no run is compared with itself.
    let ends = ENDS.min(all.first(usize::MAX).len() / 2);
    for (name, part) in [("rate/first", all.first(ends)), ("rate/last", all.last(ends))] {
        for value in part {
            report.add(name, Unit::Millis, value);
        }
    }
    report.compare(&[("last/first", "rate/last", "rate/first")]);
    report.notes.push(match failed {
        [] => "no run failed".to_owned(),
        [first, ..] => format!("{} did not succeed; {first}", failed.len()),
    });
}

/// A machine that is booted for the run, and then removed.
struct Boot(Ordinary);

#[async_trait::async_trait(?Send)]
impl Contender for Boot {
    fn name(&self) -> &'static str {
        self.0.way.name()
    }

    fn wanted(&self, n: usize) -> usize {
        self.0.way.rounds(n)
    }

    async fn round(&mut self) -> Result<Round, BenchError> {
        let mut laps = Laps::start();
        self.0.prepare().await?;
        laps.lap("boot");
        let mut session = self.0.take()?;
        self.0.identity(&mut session).await?;
        self.0.execute(&mut session, "true").await?;
        laps.lap("execute");
        self.0.remove().await?;
        let all = laps.lap("remove");
        Ok(laps.into_round().figure("succeeded", all))
    }
}
