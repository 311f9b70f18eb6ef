//! The stage `Executing`: one attempt on the task's machine, from the accepted command to the
//! release.

use std::sync::Arc;

use agentvm_core::{
    machine::Event,
    run::{AttemptEnd, AttemptResult, Fetched, FinishedAttempt, Outcome, StopCause},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    AttemptSpec,
    attempt::{Attempt, AttemptReport, GRACE, Progress, SLACK, Store, stopped, time_left},
    commands::{Inbox, MachineCommand},
    finish::Finish,
    task::Task,
};
use crate::{agent::Session, network::flows};

/// The state in which an attempt leaves its machine.
pub enum Left {
    /// The end of the attempt is durable. `intact`: it ended by itself and was seen to end.
    Behind { intact: bool },
    /// The machine goes, whatever the attempt did.
    Dropped,
}

impl Task {
    /// Executes the attempt, holds its result until it is durable elsewhere, and waits for the
    /// release.
    pub async fn execute(&mut self, spec: &AttemptSpec, session: Option<Session>) -> Left {
        let inner = self.inner.clone();
        let begun = inner.config.clock.instant();
        self.tell_pool();
        let recorder = &inner.config.flow_recorder;
        flows::begin_record(recorder, &self.record, &spec.run_uid, &spec.run);
        let over = self.attempt(spec, session, begun).await;
        let metrics = &inner.config.metrics;
        let network = flows::finish_record(&*inner.hv, recorder, &self.record, metrics).await;
        let Some((mut done, intact)) = over else { return Left::Dropped };
        done.outcome.network = network;
        self.on(Event::End(Arc::new(done)));
        inner.events.run(&spec.run_uid);
        self.released(intact).await
    }

    async fn released(&mut self, intact: bool) -> Left {
        while let Some(command) = self.inbox.next().await {
            match command {
                MachineCommand::Release { .. } => return Left::Behind { intact },
                MachineCommand::End => return Left::Dropped,
                MachineCommand::Execute { .. } | MachineCommand::Stop { .. } => {
                    self.inbox.unexpected(&command);
                }
            }
        }
        Left::Dropped
    }

    /// The end of the attempt, and whether it came by itself. `None`: its result is not wanted any
    /// more.
    async fn attempt(
        &mut self,
        spec: &AttemptSpec,
        session: Option<Session>,
        begun: Instant,
    ) -> Option<(FinishedAttempt, bool)> {
        let inner = self.inner.clone();
        let hv = &*inner.hv;
        // The mark is there before the content: only what is marked is ever removed.
        let marked = match spec.folder.parent() {
            Some(folder) => inner.config.marker.mark_run(folder, &spec.run),
            None => Ok(()),
        };
        let store = match marked.and_then(|()| Store::open(&spec.folder)) {
            Ok(store) => store,
            Err(why) => return Some((no_folder(spec, &why), false)),
        };
        let deadline = begun + time_left(spec.claimed, spec.timeout, &inner.config.clock);
        let (tell_stop, stop) = watch::channel(spec.stop);
        let claim = inner.board().take_claim(&self.key);
        let mut progress = Progress::since(begun, self.found);
        let report = {
            let attempt = Attempt {
                hv,
                clock: &inner.config.clock,
                record: &self.record,
                spec,
                store: store.clone(),
                stop,
                max_processes: self.limits().processes,
                claim,
                bridged: inner.network.bridged_nic(&self.record),
                progress: &mut progress,
            };
            let attempt = attempt.run(session);
            tokio::pin!(attempt);
            let stopped_by = |now: Instant| now + GRACE + SLACK;
            let mut forced_at = spec.stop.map(|_| stopped_by(begun));
            loop {
                tokio::select! {
                    biased;
                    // First: a guest that floods its host is heard after this.
                    () = sleep_until(deadline) => break Err(None),
                    () = at(forced_at) => break Err(*tell_stop.borrow()),
                    command = self.inbox.next() => match command {
                        // Only the first Stop counts.
                        Some(MachineCommand::Stop { cause, .. }) => {
                            let now = inner.config.clock.instant();
                            forced_at.get_or_insert(stopped_by(now));
                            tell_stop.send_if_modified(|told| {
                                told.is_none().then(|| *told = Some(cause)).is_some()
                            });
                        }
                        Some(MachineCommand::Release { .. } | MachineCommand::End) | None => {
                            return None;
                        }
                        Some(execute @ MachineCommand::Execute { .. }) => {
                            self.inbox.unexpected(&execute);
                        }
                    },
                    report = &mut attempt => break Ok(report),
                }
            }
        };
        // The output up to here is kept, whatever ended the attempt.
        let stopping = tell_stop.borrow().is_some();
        let report = report.unwrap_or_else(|cause| progress.cut_off(cause));
        let finish = Finish { hv, clock: &inner.config.clock, record: &self.record, spec, store };
        finish_or_stop(&mut self.inbox, finish, begun, report, stopping).await
    }
}

/// Finishes the attempt. A stop gives the collection a last time limit, and a release ends it.
async fn finish_or_stop(
    inbox: &mut Inbox,
    finish: Finish<'_>,
    begun: Instant,
    report: AttemptReport,
    stopped_before: bool,
) -> Option<(FinishedAttempt, bool)> {
    let clock = finish.clock;
    let intact = report.wire.is_some();
    let (result, exit_code) =
        (report.result.clone(), report.wire.as_ref().and_then(|wire| wire.exit_code));
    let mut until = stopped_before.then(|| clock.instant() + SLACK);
    let mut stopped_by = None;
    let finished = finish.finish(begun, report);
    tokio::pin!(finished);
    loop {
        tokio::select! {
            biased;
            command = inbox.next() => match command {
                Some(MachineCommand::Stop { cause, .. }) => {
                    stopped_by = Some(cause);
                    until.get_or_insert(clock.instant() + GRACE);
                }
                Some(MachineCommand::Release { .. } | MachineCommand::End) | None => return None,
                Some(execute @ MachineCommand::Execute { .. }) => inbox.unexpected(&execute),
            },
            done = &mut finished => return Some((done, intact)),
            () = at(until) => return Some((uncollected(result, exit_code, stopped_by), false)),
        }
    }
}

/// The end of an attempt that was stopped while its output was copied.
fn uncollected(
    mut result: AttemptResult,
    exit_code: Option<i32>,
    stopped_by: Option<StopCause>,
) -> FinishedAttempt {
    if let Some(cause) = stopped_by {
        result.end = stopped(cause);
    }
    let outcome = Outcome { exit_code, ..Outcome::default() };
    let why = "the run was stopped while its output was copied".to_owned();
    FinishedAttempt::concluded(result, outcome, Fetched::Lost(why))
}

/// Returns at this time; without a time, never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The end of an attempt that was not started, because this node cannot keep its output.
fn no_folder(spec: &AttemptSpec, why: &std::io::Error) -> FinishedAttempt {
    let message = format!("its folder {} could not be made: {why}", spec.folder.display());
    AttemptResult { end: AttemptEnd::GuestLost, started: false, message }.without_outcome()
}
