//! From the end of an attempt to its outcome: the output is collected, the ends of the streams are
//! read, the times are summed up.

use std::sync::Arc;

use agentvm_core::run::{AttemptEnd, AttemptResult, FinishedAttempt, Outcome};
use agentvm_crds::{OutputFile, OutputStatus, Timings};
use agentvm_guest_agent::protocol::StreamId;
use agentvm_hypervisor::{Collected, Hypervisor, MachineRecord};
use agentvm_types::report;
use jiff::Timestamp;
use tokio::time::Instant;

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

impl Finish<'_> {
    /// Pauses the machine, collects its output, and sums the attempt up.
    pub async fn finish(self, begun: Instant, report: AttemptReport) -> FinishedAttempt {
        let AttemptReport { mut result, wire, acquired, acknowledged } = report;
        let over = self.clock.instant();
        let mut outcome = Outcome::default();
        // A paused machine cannot change its output while it is read. A machine that is gone left
        // none.
        if result.started && self.hv.pause(&self.record.name).await.is_ok() {
            outcome.output = self.collect(&mut result).await;
        }
        if let Some(wire) = wire {
            outcome.exit_code = wire.exit_code;
            outcome.signal = wire.signal;
            outcome.stdout_cut = wire.stdout.dropped > 0;
            outcome.stderr_cut = wire.stderr.dropped > 0;
            outcome.duration_seconds =
                Some(std::time::Duration::from_millis(wire.duration_millis).as_secs_f64());
        }
        read_tails(&self.store, &mut outcome).await;
        outcome.timings = Timings {
            queue_millis: between(self.spec.created, self.spec.claimed),
            acquire_millis: span(Some(begun), acquired),
            start_millis: span(acquired, acknowledged),
            execute_millis: span(acknowledged, Some(over)),
            collect_millis: span(Some(over), Some(self.clock.instant())),
        };
        FinishedAttempt { result, outcome }
    }

    /// The output. An output that is too large or cannot be read changes the result.
    async fn collect(&self, result: &mut AttemptResult) -> Option<OutputStatus> {
        let folder = self.store.output_folder();
        match self.hv.collect(&self.record.name, &self.spec.collect, &folder).await {
            Ok(collected) => {
                if let Some(why) = &collected.too_large {
                    too_large(result, why);
                }
                Some(output_status(&collected, &self.store))
            }
            Err(why) => {
                tracing::warn!(
                    run = %self.spec.run,
                    error = &why as &dyn std::error::Error,
                    "the output could not be read"
                );
                if matches!(result.end, AttemptEnd::Exited(_) | AttemptEnd::Signaled(_)) {
                    result.end = AttemptEnd::GuestLost;
                    result.message =
                        format!("it ended, but its output could not be read: {}", report(&why));
                }
                None
            }
        }
    }
}

fn span(from: Option<Instant>, to: Option<Instant>) -> i64 {
    match (from, to) {
        (Some(from), Some(to)) => millis(to.saturating_duration_since(from)),
        _ => 0,
    }
}

fn too_large(result: &mut AttemptResult, why: &str) {
    if matches!(result.end, AttemptEnd::Exited(_) | AttemptEnd::Signaled(_)) {
        result.end = AttemptEnd::OutputTooLarge;
        why.clone_into(&mut result.message);
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

async fn read_tails(store: &Store, outcome: &mut Outcome) {
    let store = Arc::new(store.clone());
    for stream in [StreamId::Stdout, StreamId::Stderr] {
        let store = store.clone();
        let read = tokio::task::spawn_blocking(move || store.tail(stream, TAIL)).await;
        let (bytes, cut) = match read.map_err(std::io::Error::other).flatten() {
            Ok(tail) => tail,
            Err(why) => {
                tracing::warn!(
                    error = &why as &dyn std::error::Error,
                    "a stream's end could not be read"
                );
                (Vec::new(), true)
            }
        };
        match stream {
            StreamId::Stdout => {
                (outcome.stdout, outcome.stdout_cut) = (bytes, outcome.stdout_cut || cut);
            }
            StreamId::Stderr => {
                (outcome.stderr, outcome.stderr_cut) = (bytes, outcome.stderr_cut || cut);
            }
        }
    }
}

fn millis(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_millisecond().saturating_sub(from.as_millisecond()).max(0)
}
