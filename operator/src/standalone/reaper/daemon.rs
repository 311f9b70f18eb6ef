//! One daemon: its specification, its state, its start and its end.
//!
//! ```text
//!   Due ──start──► Running ──died──► Due (after a pause that grows)
//!    └─a foreign one answers──► Due (asked again later; two of them would fight)
//! ```

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::restarts::Restarts;
use crate::clock::Clock;
use crate::standalone::process::ProcessId;

/// The interval between checks whether a foreign daemon has gone.
const FOREIGN_RECHECK: Duration = Duration::from_secs(1);
/// A log that is longer than this is emptied.
const MOST_LOG_BYTES: u64 = 4 << 20;

/// The specification of a daemon that the reaper keeps running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonSpec {
    pub name: String,
    /// The program must stay in the foreground.
    pub program: PathBuf,
    pub args: Vec<String>,
    /// A socket that answers when the daemon is up. If it answers before our start, another daemon
    /// runs already.
    pub socket: Option<PathBuf>,
}

/// A daemon and its state.
#[derive(Debug)]
pub struct Daemon {
    pub spec: DaemonSpec,
    log: PathBuf,
    state: State,
    restarts: Restarts,
}

#[derive(Debug)]
enum State {
    Due(Instant),
    Running { id: ProcessId, since: Instant },
}

impl Daemon {
    pub fn new(spec: DaemonSpec, log: PathBuf) -> Self {
        Self {
            spec,
            log,
            state: State::Due(Clock::system().instant()),
            restarts: Restarts::default(),
        }
    }

    pub fn running(&self) -> Option<ProcessId> {
        match self.state {
            State::Running { id, .. } => Some(id),
            State::Due(_) => None,
        }
    }

    /// The time of the next check; `None` while it runs.
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::Due(at) => Some(at),
            State::Running { .. } => None,
        }
    }

    /// Whether clients are served, by this daemon or a foreign one.
    pub fn answers(&self) -> bool {
        self.spec.socket.as_deref().is_none_or(answers)
    }

    /// Starts the daemon if its start is due. A failed start counts as a death.
    pub fn start_if_due(&mut self, now: Instant) {
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        if self.spec.socket.as_deref().is_some_and(answers) {
            tracing::debug!(daemon = self.spec.name, "a foreign daemon runs already");
            self.state = State::Due(now + FOREIGN_RECHECK);
            return;
        }
        match self.start() {
            Ok(id) => {
                tracing::info!(daemon = self.spec.name, pid = id.pid, "started");
                self.state = State::Running { id, since: now };
            }
            Err(error) => {
                let DaemonSpec { name, program, .. } = &self.spec;
                tracing::warn!(daemon = name, program = %program.display(), %error, "cannot start");
                self.wait_after(Duration::ZERO, now);
            }
        }
    }

    /// Records the daemon's end.
    pub fn died(&mut self, now: Instant) {
        let ran = match self.state {
            State::Running { since, .. } => now.duration_since(since),
            State::Due(_) => Duration::ZERO,
        };
        self.wait_after(ran, now);
    }

    /// Empties a log that is too long. The daemon continues at the beginning, because it appends.
    pub fn bound_log(&self) {
        if fs::metadata(&self.log).is_ok_and(|log| log.len() > MOST_LOG_BYTES) {
            // A failure costs only disk space, and the next check comes soon.
            let _ = OpenOptions::new().write(true).open(&self.log).and_then(|log| log.set_len(0));
        }
    }

    fn wait_after(&mut self, ran: Duration, now: Instant) {
        self.state = State::Due(now + self.restarts.pause(ran, &self.spec.name));
    }

    fn start(&self) -> io::Result<ProcessId> {
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.log)?;
        let child = Command::new(&self.spec.program)
            .args(&self.spec.args)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        // A daemon that ended at this moment is a zombie without an identity, but waiting still
        // finds it.
        ProcessId::of(pid)
    }
}

/// Whether a server accepts connections on this socket.
pub fn answers(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::restarts::RESTART;
    use super::*;

    fn daemon(dir: &Path, program: &str, args: &[&str], socket: Option<PathBuf>) -> Daemon {
        let args = args.iter().map(ToString::to_string).collect();
        Daemon::new(
            DaemonSpec { name: "d".into(), program: program.into(), args, socket },
            dir.join("d.log"),
        )
    }

    #[test]
    fn a_program_that_is_missing_is_tried_again_after_pauses_that_grow() {
        let dir = tempfile::tempdir().unwrap();
        let mut daemon = daemon(dir.path(), "/nowhere/daemon", &[], None);
        let mut now = Clock::system().instant();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            daemon.start_if_due(now);
            let due = daemon.due().unwrap();
            pauses.push(due - now);
            daemon.start_if_due(now); // not due: nothing happens
            assert_eq!(daemon.due().unwrap(), due);
            now = due;
        }
        assert!(pauses[0] < Duration::from_millis(250) && pauses[3] > pauses[0] * 4, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= RESTART.cap * 12 / 10), "{pauses:?}");
    }

    #[test]
    fn a_log_that_grew_too_long_is_begun_anew_while_the_daemon_writes() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = daemon(dir.path(), "sleep", &["600"], None);
        let mut log =
            OpenOptions::new().create(true).append(true).open(dir.path().join("d.log")).unwrap();
        log.write_all(&vec![b'x'; MOST_LOG_BYTES.try_into().unwrap()]).unwrap();
        daemon.bound_log();
        assert_eq!(log.metadata().unwrap().len(), MOST_LOG_BYTES, "not yet");
        log.write_all(b"y").unwrap();
        daemon.bound_log();
        log.write_all(b"new").unwrap();
        assert_eq!(fs::read(dir.path().join("d.log")).unwrap(), b"new");
    }

    #[test]
    fn a_daemon_that_is_there_already_is_left_alone_until_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let foreign = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let mut daemon = daemon(dir.path(), "sleep", &["600"], Some(socket));
        let now = Clock::system().instant();
        daemon.start_if_due(now);
        assert_eq!(daemon.running(), None);
        assert!(daemon.answers());

        drop(foreign); // its socket's file stays, as a killed daemon's does
        let deadline = now + Duration::from_secs(10);
        let mut later = now;
        // A child that another test forks at this moment holds the listener until it calls exec.
        let id = loop {
            later += FOREIGN_RECHECK;
            daemon.start_if_due(later);
            match daemon.running() {
                Some(id) => break id,
                None => {
                    assert!(
                        Clock::system().instant() < deadline,
                        "it is started after the foreign one is gone"
                    );
                }
            }
        };
        id.signal(rustix::process::Signal::KILL);
        let pid = rustix::process::Pid::from_raw(id.pid);
        rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
    }
}
