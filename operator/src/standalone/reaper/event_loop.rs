//! The reaper's loop: starts due daemons and waits for ended processes, until it gets a signal.

use std::io;
use std::time::Duration;

use rustix::process::{Signal, WaitOptions, WaitStatus};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::time::{sleep_until, timeout};

use super::daemon::Daemon;
use super::{DaemonSpec, ReaperFiles, ReaperState};
use crate::clock::Clock;
use crate::standalone::process::ProcessId;

/// The time limit for a daemon to answer. After it, the daemons that need this one are started
/// anyway.
const UP_WITHIN: Duration = Duration::from_secs(10);
const UP_POLL: Duration = Duration::from_millis(20);
/// The time limit for a daemon to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// The interval between checks of the logs while no process ends.
const IDLE_CHECK: Duration = Duration::from_mins(10);

struct Supervisor<'a> {
    files: &'a ReaperFiles,
    /// In the order in which they are started.
    daemons: Vec<Daemon>,
    children: SignalStream,
    published: Option<ReaperState>,
    clock: Clock,
    ending: bool,
}

/// Runs until SIGTERM or SIGINT, then ends the daemons.
pub async fn supervise(files: &ReaperFiles, specs: Vec<DaemonSpec>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let daemons = specs.into_iter().map(|spec| {
        let log = files.daemon_log(&spec.name);
        Daemon::new(spec, log)
    });
    let mut supervisor = Supervisor {
        files,
        daemons: daemons.collect(),
        children: signal(SignalKind::child())?,
        published: None,
        clock: Clock::system(),
        ending: false,
    };
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        never = supervisor.keep_running() => return never,
    }
    supervisor.end().await;
    Ok(())
}

impl Supervisor<'_> {
    async fn keep_running(&mut self) -> io::Result<()> {
        loop {
            self.reap();
            // Publish before the daemons run: an interrupted start must leave a reaper that others
            // can find and end.
            self.publish()?;
            self.start_due().await;
            self.publish()?;
            self.daemons.iter().for_each(Daemon::bound_log);
            let next = self.daemons.iter().filter_map(Daemon::due).min();
            let wake = next.unwrap_or_else(|| self.clock.instant() + IDLE_CHECK);
            tokio::select! {
                _ = self.children.recv() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Waits for every ended process, our own and adopted ones.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            let dead = self
                .daemons
                .iter_mut()
                .find(|daemon| daemon.running().is_some_and(|id| id.pid == pid));
            if let Some(daemon) = dead {
                let how = describe(status);
                if self.ending {
                    tracing::info!(daemon = daemon.spec.name, how, "ended");
                } else {
                    tracing::warn!(daemon = daemon.spec.name, how, "a daemon died");
                }
                daemon.died(self.clock.instant());
            }
        }
    }

    /// Starts daemons one after the other, because libvirtd looks for virtlogd only when a machine
    /// starts.
    async fn start_due(&mut self) {
        for index in 0..self.daemons.len() {
            self.daemons[index].start_if_due(self.clock.instant());
            let began = self.clock.instant();
            while self.daemons[index].running().is_some()
                && !self.daemons[index].answers()
                && self.clock.instant() - began < UP_WITHIN
            {
                tokio::time::sleep(UP_POLL).await;
                self.reap();
            }
        }
    }

    /// Skips equal content, because most ended processes are adopted and change nothing.
    fn publish(&mut self) -> io::Result<()> {
        let daemons = self
            .daemons
            .iter()
            .filter_map(|daemon| Some((daemon.spec.name.clone(), daemon.running()?)));
        let state = ReaperState { reaper: ProcessId::current()?, daemons: daemons.collect() };
        if self.published.as_ref() != Some(&state) {
            self.files.write_state(&state)?;
            self.published = Some(state);
        }
        Ok(())
    }

    async fn end(&mut self) {
        self.ending = true;
        for index in (0..self.daemons.len()).rev() {
            let Some(id) = self.daemons[index].running() else { continue };
            tracing::info!(daemon = self.daemons[index].spec.name, pid = id.pid, "ending");
            for signal in [Signal::TERM, Signal::KILL] {
                id.signal(signal);
                if timeout(END_WITHIN, self.until_gone(index)).await.is_ok() {
                    break;
                }
            }
        }
    }

    async fn until_gone(&mut self, index: usize) {
        loop {
            self.reap();
            if self.daemons[index].running().is_none() {
                return;
            }
            self.children.recv().await;
        }
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "unknown".into(),
    }
}
