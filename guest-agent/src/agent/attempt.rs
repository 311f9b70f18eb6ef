//! One attempt, from the start of its launcher to its result.
//!
//! ```text
//!   Running ──deadline, stop──► Terminating ──grace over──► Killing ─┐
//!      │                             │                               │ launcher gone
//!      └────────── command ended ────┴──────────► Killing ───────────┴──► Draining ──► Finished
//! ```
//!
//! When the command ends for any reason, everything that it started is killed. Then its output is
//! read to the end.

use std::time::Duration;

use agentvm_guest_agent::protocol::{
    AttemptReport, AttemptState, Execute, Nonce, StreamId, WireResult,
};
use tokio::time::{Instant, sleep_until};

use crate::launch::{Event, Launched, Order};
use crate::scope::Scope;
use crate::stream::Stream;

/// The intervals between two checks whether the last process is gone: the first interval, and the
/// longest one.
const FIRST_TICK: Duration = Duration::from_millis(1);
const LAST_TICK: Duration = Duration::from_millis(10);
/// The time that the kernel may take to end killed processes.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// The time for which a stream without a writer may be silent before it counts as closed.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum Phase {
    Running { deadline: Option<Instant> },
    Terminating { kill_at: Instant },
    Killing { give_up: Instant },
    Draining { next_look: Instant, tick: Duration, give_up: Instant },
    Finished(Box<WireResult>),
}

/// The way in which the command ended.
#[derive(Debug, Default)]
struct Verdict {
    exit_code: Option<i32>,
    signal: Option<i32>,
    error: Option<String>,
}

/// An attempt that was started.
#[derive(Debug)]
pub struct Attempt {
    nonce: Nonce,
    scope: Scope,
    launched: Launched,
    pub stdout: Stream,
    pub stderr: Stream,
    phase: Phase,
    started: Instant,
    ended: Option<Instant>,
    grace: Duration,
    timed_out: bool,
    stopped: bool,
    verdict: Option<Verdict>,
}

impl Attempt {
    /// Takes over a launcher that was started for `execute`.
    pub fn new(execute: &Execute, scope: Scope, mut launched: Launched) -> Self {
        let started = Instant::now();
        let timeout =
            (execute.timeout_millis > 0).then(|| Duration::from_millis(execute.timeout_millis));
        let closed = |source: &mut _| std::mem::replace(source, tokio::sync::mpsc::channel(1).1);
        let stream = |source: &mut _, limit| Stream::new(closed(source), limit, execute.end_bytes);
        Self {
            nonce: execute.nonce.clone(),
            scope,
            stdout: stream(&mut launched.stdout, execute.max_stdout_bytes),
            stderr: stream(&mut launched.stderr, execute.max_stderr_bytes),
            launched,
            phase: Phase::Running { deadline: timeout.and_then(|t| started.checked_add(t)) },
            started,
            ended: None,
            grace: Duration::from_millis(execute.grace_millis),
            timed_out: false,
            stopped: false,
            verdict: None,
        }
    }

    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    pub fn stream(&self, id: StreamId) -> &Stream {
        match id {
            StreamId::Stdout => &self.stdout,
            StreamId::Stderr => &self.stderr,
        }
    }

    pub fn stream_mut(&mut self, id: StreamId) -> &mut Stream {
        match id {
            StreamId::Stdout => &mut self.stdout,
            StreamId::Stderr => &mut self.stderr,
        }
    }

    /// The result, once only the output of the attempt is left.
    pub fn result(&self) -> Option<&WireResult> {
        match &self.phase {
            Phase::Finished(result) => Some(result),
            _ => None,
        }
    }

    pub fn report(&self) -> AttemptReport {
        AttemptReport {
            nonce: self.nonce.clone(),
            state: if self.result().is_some() {
                AttemptState::Finished
            } else {
                AttemptState::Running
            },
            stdout: self.stdout.replay().range(),
            stderr: self.stderr.replay().range(),
        }
    }

    /// Ends it: SIGTERM now, SIGKILL after `grace`.
    pub fn stop(&mut self, grace: Duration) {
        if let Phase::Running { .. } = self.phase {
            self.stopped = true;
            self.terminate(grace);
        }
    }

    /// Waits for the next event of the attempt, and records it. Safe to cancel. It never returns
    /// when the attempt is finished.
    pub async fn advance(&mut self) {
        if self.result().is_some() {
            return std::future::pending().await;
        }
        let due = self.due();
        // Then the launcher is gone, and its channel would say so forever.
        let draining = matches!(self.phase, Phase::Draining { .. });
        tokio::select! {
            event = self.launched.events.recv(), if !draining => self.observe(event),
            chunk = self.stdout.next(),
                if self.stdout.wants() => { self.stdout.take(chunk); self.postpone(); }
            chunk = self.stderr.next(),
                if self.stderr.wants() => { self.stderr.take(chunk); self.postpone(); }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.overdue(),
        }
        self.settle();
    }

    fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Running { deadline } => deadline,
            Phase::Terminating { kill_at } => Some(kill_at),
            Phase::Killing { give_up } => Some(give_up),
            Phase::Draining { next_look, .. } => Some(next_look),
            Phase::Finished(_) => None,
        }
    }

    fn observe(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Ready | Event::Started) => {}
            Some(Event::Refused { code, message }) => {
                self.end(Verdict {
                    exit_code: Some(code),
                    error: Some(message),
                    ..Verdict::default()
                });
            }
            Some(Event::Exited { code, signal }) => {
                self.end(Verdict { exit_code: code, signal, ..Verdict::default() });
            }
            None => self.launcher_gone(),
        }
    }

    fn end(&mut self, verdict: Verdict) {
        self.verdict.get_or_insert(verdict);
        self.ended.get_or_insert_with(Instant::now);
        self.kill();
    }

    /// Without a word about the command it was killed, with all the rest.
    fn launcher_gone(&mut self) {
        const SIGKILL: i32 = 9;
        self.end(Verdict { signal: Some(SIGKILL), ..Verdict::default() });
        let now = Instant::now();
        self.phase =
            Phase::Draining { next_look: now, tick: FIRST_TICK, give_up: now + DRAIN_PATIENCE };
    }

    fn overdue(&mut self) {
        match self.phase {
            Phase::Running { .. } => {
                self.timed_out = true;
                self.terminate(self.grace);
            }
            Phase::Terminating { .. } => self.kill(),
            Phase::Killing { .. } => self.launcher_gone(),
            Phase::Draining { tick, give_up, .. } => self.look(tick, give_up),
            Phase::Finished(_) => {}
        }
    }

    fn terminate(&mut self, grace: Duration) {
        self.scope.terminate(&mut self.launched);
        let now = Instant::now();
        self.phase = Phase::Terminating { kill_at: now.checked_add(grace).unwrap_or(now) };
    }

    fn kill(&mut self) {
        self.scope.kill();
        self.launched.order(Order::Kill);
        if !matches!(self.phase, Phase::Killing { .. }) {
            self.phase = Phase::Killing { give_up: Instant::now() + KILL_PATIENCE };
        }
    }

    /// A stream that the host's acknowledgements hold up isn't silent, only waiting.
    fn look(&mut self, tick: Duration, give_up: Instant) {
        let now = Instant::now();
        let blocked = [&self.stdout, &self.stderr]
            .iter()
            .any(|stream| !stream.is_closed() && !stream.wants());
        let give_up = if blocked { now + DRAIN_PATIENCE } else { give_up };
        if now >= give_up {
            self.stdout.close();
            self.stderr.close();
        }
        self.phase =
            Phase::Draining { next_look: now + tick, tick: LAST_TICK.min(tick * 2), give_up };
    }

    fn postpone(&mut self) {
        if let Phase::Draining { give_up, .. } = &mut self.phase {
            *give_up = Instant::now() + DRAIN_PATIENCE;
        }
    }

    fn settle(&mut self) {
        let Phase::Draining { .. } = self.phase else { return };
        let drained = self.stdout.is_closed() && self.stderr.is_closed();
        let overdue = self.ended.is_some_and(|at| at.elapsed() > KILL_PATIENCE);
        if !drained || !(self.scope.is_empty() || overdue) {
            return;
        }
        let verdict = self.verdict.take().unwrap_or_default();
        self.phase = Phase::Finished(Box::new(WireResult {
            nonce: self.nonce.clone(),
            exit_code: verdict.exit_code,
            signal: verdict.signal,
            timed_out: self.timed_out,
            stopped: self.stopped,
            oom_killed: self.scope.oom_killed(),
            duration_millis: millis(self.ended.unwrap_or_else(Instant::now) - self.started),
            stdout: self.stdout.totals(),
            stderr: self.stderr.totals(),
            error: verdict.error.map(Into::into),
        }));
        self.scope.finish();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
