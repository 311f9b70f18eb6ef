//! From the end of an attempt to its outcome: the output is collected, the ends of the streams are
//! read, the times are summed up.

use std::time::Duration;

use agentvm_core::{
    backoff::Backoff,
    run::{Fetched, FinishedAttempt, Outcome},
};
use agentvm_crds::{OutputFile, OutputStatus, Timings};
use agentvm_guest_agent::protocol::{StreamId, WireResult};
use agentvm_hypervisor::{Collected, HvError, Hypervisor, MachineRecord, PowerState};
use agentvm_types::report;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::attempt::{AttemptReport, AttemptSpec, Store};
use crate::clock::Clock;

/// The bytes of a stream that are read for the status. The core cuts further.
const TAIL: u64 = 64 * 1024;
/// The files and skipped entries that are passed on. The status lists fewer.
const LISTED: usize = 1000;

/// An attempt that is over, on its machine.
#[derive(Debug)]
pub struct Finish<'a> {
    pub hv: &'a dyn Hypervisor,
    pub clock: &'a Clock,
    pub record: &'a MachineRecord,
    pub spec: &'a AttemptSpec,
    pub store: Store,
}

/// The time for which a host that fails is asked again, before an output counts as lost.
const FETCH_AGAIN: Duration = Duration::from_secs(30);
const AGAIN: Backoff = Backoff { first: Duration::from_millis(200), cap: Duration::from_secs(5) };

impl Finish<'_> {
    /// Pauses the machine, collects its output, and sums the attempt up. A caller that drops the
    /// future ends the collection.
    pub async fn finish(self, begun: Instant, report: AttemptReport) -> FinishedAttempt {
        let AttemptReport { result, wire, acquired, acknowledged } = report;
        let over = self.clock.instant();
        let mut outcome = Outcome::default();
        if let Some(wire) = &wire {
            outcome.exit_code = wire.exit_code;
            outcome.signal = wire.signal;
            outcome.duration_seconds =
                Some(Duration::from_millis(wire.duration_millis).as_secs_f64());
        }
        let streams = read_streams(&self.store, &mut outcome, wire.as_ref()).await;
        let mut done = if result.started {
            let fetched = match (self.fetch().await, streams) {
                (fetched, Ok(())) => fetched,
                (Fetched::Kept(output) | Fetched::TooLarge(output, _), Err(why)) => {
                    outcome.output = Some(output);
                    Fetched::Lost(why)
                }
                (Fetched::Lost(files), Err(why)) => Fetched::Lost(format!("{why}; {files}")),
            };
            FinishedAttempt::concluded(result, outcome, fetched)
        } else {
            result.without_outcome()
        };
        done.outcome.timings = Timings {
            queue_millis: between(self.spec.created, self.spec.claimed),
            acquire_millis: span(Some(begun), acquired),
            start_millis: span(acquired, acknowledged),
            execute_millis: span(acknowledged, Some(over)),
            collect_millis: span(Some(over), Some(self.clock.instant())),
        };
        done
    }

    /// The output, or the last reason why the host could not give it.
    async fn fetch(&self) -> Fetched {
        let until = self.clock.instant() + FETCH_AGAIN;
        let mut failures = 0;
        loop {
            let why = match self.try_fetch().await {
                Ok(fetched) => return fetched,
                Err(why) => why,
            };
            failures += 1;
            tracing::warn!(
                run = %self.spec.run,
                machine = %self.record.name,
                error = &why as &dyn std::error::Error,
                "the output could not be read"
            );
            if matches!(why, HvError::NoSuchMachine(_)) || self.clock.instant() >= until {
                return Fetched::Lost(report(&why));
            }
            sleep(AGAIN.after(failures, self.record.name.as_str())).await;
        }
    }

    async fn try_fetch(&self) -> Result<Fetched, HvError> {
        self.stand_still().await?;
        let folder = self.store.output_folder();
        let collected = self.hv.collect(&self.record.name, &self.spec.collect, &folder).await?;
        let output = output_status(&collected, &self.store);
        Ok(match collected.too_large {
            Some(why) => Fetched::TooLarge(output, why),
            None => Fetched::Kept(output),
        })
    }

    /// A machine that stands still cannot change its output while it is read. A machine that is
    /// gone cannot either, and its share is still on the host.
    async fn stand_still(&self) -> Result<(), HvError> {
        let Err(why) = self.hv.pause(&self.record.name).await else { return Ok(()) };
        match self.hv.state(&self.record.name).await? {
            PowerState::Paused | PowerState::Absent | PowerState::Dead { .. } => Ok(()),
            PowerState::Running => Err(why),
        }
    }
}

fn span(from: Option<Instant>, to: Option<Instant>) -> i64 {
    match (from, to) {
        (Some(from), Some(to)) => millis(to.saturating_duration_since(from)),
        _ => 0,
    }
}

fn output_status(collected: &Collected, store: &Store) -> OutputStatus {
    let total_bytes =
        collected.files.iter().map(|file| file.size_bytes).fold(0, u64::saturating_add);
    let files = collected.files.iter().take(LISTED).map(|file| OutputFile {
        path: file.path.clone(),
        size_bytes: i64::try_from(file.size_bytes).unwrap_or(i64::MAX),
        sha256: file.sha256.clone(),
    });
    let mut skipped: Vec<String> = collected
        .skipped
        .iter()
        .take(LISTED)
        .map(|entry| agentvm_core::status::clip(&format!("{:?}: {}", entry.path, entry.why), 512))
        .collect();
    if collected.skipped_total > skipped.len() as u64 {
        skipped.insert(0, format!("{} entries in all", collected.skipped_total));
    }
    OutputStatus {
        files: files.collect(),
        total_files: i32::try_from(collected.files.len()).unwrap_or(i32::MAX),
        total_bytes: i64::try_from(total_bytes).unwrap_or(i64::MAX),
        location: store.output_folder().display().to_string(),
        skipped,
    }
}

/// Reads the ends of the streams. An error says that a part of a stream is not on this node.
async fn read_streams(
    store: &Store,
    outcome: &mut Outcome,
    wire: Option<&WireResult>,
) -> Result<(), String> {
    let mut all = Ok(());
    for id in [StreamId::Stdout, StreamId::Stderr] {
        let totals = wire.map(|wire| match id {
            StreamId::Stdout => wire.stdout,
            StreamId::Stderr => wire.stderr,
        });
        let store = store.clone();
        let read = tokio::task::spawn_blocking(move || read_stream(&store, id)).await;
        let read = read.map_err(std::io::Error::other).flatten();
        let stream = read.unwrap_or_else(|why| {
            all = Err(format!("a stream could not be read: {why}"));
            Stream { end: Vec::new(), cut: true, kept: u64::MAX, missing: 0 }
        });
        if let Some(totals) = totals.filter(|totals| totals.bytes > stream.kept) {
            all = Err(format!(
                "{} of {} bytes of {id:?} are on this node",
                stream.kept, totals.bytes
            ));
        }
        let cut = stream.cut || totals.is_some_and(|totals| totals.dropped > 0);
        match id {
            StreamId::Stdout => {
                (outcome.stdout, outcome.stdout_cut) = (stream.end, cut);
                outcome.stdout_missing = stream.missing;
            }
            StreamId::Stderr => {
                (outcome.stderr, outcome.stderr_cut) = (stream.end, cut);
                outcome.stderr_missing = stream.missing;
            }
        }
    }
    all
}

/// A stream, as this node has it.
struct Stream {
    end: Vec<u8>,
    cut: bool,
    kept: u64,
    missing: u64,
}

fn read_stream(store: &Store, id: StreamId) -> std::io::Result<Stream> {
    let (end, cut) = store.tail(id, TAIL)?;
    let missing = store.missing(id)?;
    let kept = store.len(id)?.saturating_sub(missing);
    Ok(Stream { end, cut, kept, missing })
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_millisecond().saturating_sub(from.as_millisecond()).max(0)
}
