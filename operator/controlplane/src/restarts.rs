//! One task keeps one child running. It starts the child, restarts it after its death with a
//! growing pause, and ends it.
//!
//! ```text
//!   Starting ──► Running ──died──► Waiting ──pause over──► Starting
//!       └───────────┴──────────────────┴───stop──► Stopped
//! ```

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::Component;
use crate::commands::CommandLine;
use crate::log_file;
use crate::spawner::{self, Running};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A child that ran this long is healthy: after its next death, the pause is short again.
const WELL_AFTER: Duration = Duration::from_secs(30);
const LAST_LINES: usize = 8;

/// An event of a child.
#[derive(Clone, Debug)]
pub struct ChildEvent {
    pub component: Component,
    pub happened: Happened,
}

/// The kind of the event.
#[derive(Clone, Debug)]
pub enum Happened {
    /// The child runs. `restarts` counts its restarts.
    Started { pid: u32, restarts: u32 },
    /// The child ended without our request. It will be restarted.
    Died { how: String, last_lines: String },
    /// The child couldn't be started. The task will try again.
    NotStarted { why: String },
}

/// A child that a task keeps running. Dropping this kills the child.
#[derive(Debug)]
pub struct SupervisedProcess {
    stop: Option<oneshot::Sender<Duration>>,
    task: JoinHandle<()>,
}

impl SupervisedProcess {
    pub fn keep_running(line: CommandLine, events: broadcast::Sender<ChildEvent>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(keep_running(line, events, stopped));
        Self { stop: Some(stop), task }
    }

    /// Ends the child: SIGTERM, and SIGKILL after `grace`.
    pub async fn stop(mut self, grace: Duration) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(grace);
        }
        let _ = (&mut self.task).await;
    }
}

impl Drop for SupervisedProcess {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_running(
    line: CommandLine,
    events: broadcast::Sender<ChildEvent>,
    mut stop: oneshot::Receiver<Duration>,
) {
    let component = line.component;
    // A receiver is optional.
    let tell = |happened| drop(events.send(ChildEvent { component, happened }));
    let mut pause = Pause::default();
    for restarts in 0.. {
        let began = Instant::now();
        match spawner::spawn(&line).await {
            Ok(mut running) => {
                tell(Happened::Started { pid: running.pid().unwrap_or_default(), restarts });
                tokio::select! {
                    grace = &mut stop => return end(running, grace.unwrap_or_default()).await,
                    how = running.wait() => {
                        running.finish_log().await;
                        tell(died(&line, how));
                    }
                }
            }
            Err(why) => tell(Happened::NotStarted { why: why.to_string() }),
        }
        tokio::select! {
            _ = &mut stop => return,
            () = sleep(pause.after(began.elapsed())) => {}
        }
    }
}

/// Ends a running child. Kills it if it does not end in time.
async fn end(mut running: Running, grace: Duration) {
    running.signal(Signal::TERM);
    if timeout(grace, running.wait()).await.is_err() {
        running.signal(Signal::KILL);
        let _ = running.wait().await;
    }
    running.finish_log().await;
}

fn died(line: &CommandLine, how: std::io::Result<ExitStatus>) -> Happened {
    let how = how.map_or_else(|error| error.to_string(), |status| status.to_string());
    let last_lines = log_file::last_lines(&line.log, LAST_LINES);
    tracing::warn!(
        component = %line.component,
        how,
        log = %line.log.display(),
        "a part of the control plane died"
    );
    Happened::Died { how, last_lines }
}

/// The pause before the next start.
#[derive(Debug, Default)]
struct Pause {
    deaths: u32,
}

impl Pause {
    fn after(&mut self, ran: Duration) -> Duration {
        if ran >= WELL_AFTER {
            self.deaths = 0;
        }
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.deaths));
        self.deaths = self.deaths.saturating_add(1);
        pause.min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_start_again_after_a_good_run() {
        let mut pause = Pause::default();
        let pauses: Vec<_> = (0..8).map(|_| pause.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        for _ in 0..100 {
            assert_eq!(pause.after(Duration::ZERO), LONGEST_PAUSE);
        }
        assert_eq!(pause.after(WELL_AFTER), FIRST_PAUSE);
    }
}
