//! The process `agentvm standalone`. It is started, says that it is ready, and is ended in order or
//! by force.

use std::fs::OpenOptions;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use agentvm_testing::{agentvm, guest_image};

use crate::{DataDir, Error};

/// The time from the start to `ready:`. On two idle cores it is about 5 s.
const READY_WITHIN: Duration = Duration::from_mins(2);
/// The promised time after SIGTERM.
const ENDED_WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Standalone {
    child: Child,
}

impl Standalone {
    /// Starts it, and waits until runs are accepted.
    pub async fn start(dir: &DataDir, arguments: &[&str]) -> Result<Self, Error> {
        let log = OpenOptions::new().append(true).create(true).open(dir.log())?;
        let mut command = Command::new(agentvm()?);
        command
            .arg("standalone")
            .arg("--data-dir")
            .arg(dir.path())
            .arg("--image-dir")
            .arg(guest_image()?);
        // A terminal's Ctrl-C is for the tests. They then end their processes in order.
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0);
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let mut lines = BufReader::new(output).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if line.starts_with("ready: export KUBECONFIG=") {
                    return Ok(());
                }
            }
            Err(Error::from(format!("standalone ended before it was ready:\n{}", dir.end_of_log())))
        };
        timeout(READY_WITHIN, ready)
            .await
            .map_err(|_| format!("standalone was not ready in time:\n{}", dir.end_of_log()))??;
        Ok(Self { child })
    }

    pub fn pid(&self) -> Result<Pid, Error> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        pid.ok_or_else(|| "standalone has ended".into())
    }

    /// Sends SIGKILL.
    pub async fn kill(mut self) -> Result<(), Error> {
        Ok(self.child.kill().await?)
    }

    /// Sends SIGTERM; returns the exit status and the time that it took.
    pub async fn stop(mut self) -> Result<(ExitStatus, Duration), Error> {
        let told = Instant::now();
        kill_process(self.pid()?, Signal::TERM)?;
        let ended = timeout(ENDED_WITHIN, self.child.wait()).await;
        let status = ended
            .map_err(|_| format!("standalone did not end within {} s", ENDED_WITHIN.as_secs()))??;
        Ok((status, told.elapsed()))
    }

    /// Resident memory, KiB.
    pub fn resident_kib(&self) -> Result<u64, Error> {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid()?.as_raw_nonzero()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}
