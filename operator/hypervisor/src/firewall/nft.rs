//! Runs nft. One text is one transaction. Users see nft's own words when it refuses.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::HvError;
use crate::locks::lock;

/// The patience with nft and conntrack: both answer in milliseconds.
const DEADLINE: Duration = Duration::from_secs(10);
/// The number of tries for a question during which the host's rules change.
const TRIES: usize = 10;
const INTERRUPTED: &str = "Interrupted system call";
/// The number of our processes that the watcher can recognise, and the time for which it does.
/// Later, other processes may have their numbers, also in containers.
const REMEMBERED: usize = 64;
const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// The part of a program's output that a person reads.
const SAID: usize = 600;

/// The way to nft. It remembers the processes that it started.
#[derive(Debug, Default)]
pub struct Nft(Mutex<VecDeque<(u32, Instant)>>);

impl Nft {
    /// All of the text holds from now on, or nothing of it.
    pub fn run(&self, what: &str, text: &str) -> Result<(), HvError> {
        self.spawn(what, text).map(drop)
    }

    /// The answer of nft to a question, as text: `get element` has no JSON.
    pub fn ask(&self, what: &str, questions: &str) -> Result<String, HvError> {
        for _ in 1..TRIES {
            match self.spawn(what, questions) {
                // Another process changed rules of the host meanwhile, and nothing of this was
                // done.
                Err(HvError::NetworkUnavailable { detail, .. }) if detail.contains(INTERRUPTED) => {
                }
                answer => return answer,
            }
        }
        self.spawn(what, questions)
    }

    /// Whether a process was one of ours not long ago.
    pub fn is_ours(&self, pid: u32) -> bool {
        self.was_ours(pid, Instant::now())
    }

    fn was_ours(&self, pid: u32, now: Instant) -> bool {
        let recent = |began: &Instant| now.saturating_duration_since(*began) < REMEMBERED_FOR;
        lock(&self.0).iter().any(|(ours, began)| *ours == pid && recent(began))
    }

    fn spawn(&self, what: &str, text: &str) -> Result<String, HvError> {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]);
        // A question whether a process is ours waits until the process is known: it may change
        // something quickly.
        let start = |command: &mut Command| {
            let mut pids = lock(&self.0);
            let child = command.spawn()?;
            pids.push_back((child.id(), Instant::now()));
            let excess = pids.len().saturating_sub(REMEMBERED);
            pids.drain(..excess);
            Ok(child)
        };
        let (status, stdout, stderr) = run(what, command, text, start)?;
        if status.success() {
            Ok(stdout)
        } else {
            Err(unavailable(what, format!("nft: {}", words(&stderr))))
        }
    }
}

/// Asks the kernel's table of connections. Having none is an answer too.
pub fn conntrack(what: &str, arguments: &[&str]) -> Result<String, HvError> {
    let mut command = Command::new("conntrack");
    command.args(arguments);
    let (status, stdout, stderr) = run(what, command, "", Command::spawn)?;
    // Exit code 1 with this text means that there were none.
    if status.success() || stderr.contains("0 flow entries") {
        return Ok(stdout);
    }
    Err(unavailable(what, format!("conntrack: {}", words(&stderr))))
}

pub fn unavailable(what: &str, detail: impl Into<String>) -> HvError {
    HvError::NetworkUnavailable { what: what.to_owned(), detail: detail.into() }
}

/// Files in memory instead of pipes: no side waits for the other to read or to write.
fn run(
    what: &str,
    mut command: Command,
    input: &str,
    start: impl FnOnce(&mut Command) -> std::io::Result<Child>,
) -> Result<(ExitStatus, String, String), HvError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let io = |source| HvError::Io { what: format!("{what}: run {program}"), source };
    let (mut stdin, stdout, stderr) =
        (memory().map_err(io)?, memory().map_err(io)?, memory().map_err(io)?);
    stdin.write_all(input.as_bytes()).and_then(|()| stdin.rewind()).map_err(io)?;
    command
        .stdin(stdin)
        .stdout(stdout.try_clone().map_err(io)?)
        .stderr(stderr.try_clone().map_err(io)?);
    let mut child = start(&mut command).map_err(|why| {
        unavailable(
            what,
            format!(
                "{program} can't be run: {why}; install the package that has it (nftables, \
                conntrack)"
            ),
        )
    })?;
    let ended = wait(&mut child).map_err(io)?;
    let Some(status) = ended else {
        return Err(HvError::OutcomeUnknown { what: what.to_owned(), seconds: DEADLINE.as_secs() });
    };
    Ok((status, contents(stdout).map_err(io)?, contents(stderr).map_err(io)?))
}

/// `None` means that it took too long and was ended.
fn wait(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        let within =
            Timespec { tv_sec: i64::try_from(DEADLINE.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
        if poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&within))? == 0 {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
    }
    child.wait().map(Some)
}

fn memory() -> std::io::Result<File> {
    Ok(File::from(memfd_create("agentvm", MemfdFlags::CLOEXEC)?))
}

fn contents(mut file: File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The first lines, without the part that points into the text.
fn words(stderr: &str) -> String {
    let lines = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.bytes().all(|b| b == b'^' || b == b' '));
    lines.collect::<Vec<_>>().join("; ").chars().take(SAID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    fn nft_answers_and_is_remembered() {
        let nft = Nft::default();
        nft.ask("ask for tables", "list tables").unwrap();
        let (pid, began) = *lock(&nft.0).back().unwrap();
        assert!(nft.is_ours(pid) && !nft.is_ours(pid.wrapping_add(1)));
        assert!(!nft.was_ours(pid, began + REMEMBERED_FOR), "another process may have its number");
    }

    #[test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    fn what_is_refused_is_said_in_nft_s_own_words() {
        let why = Nft::default()
            .run("set the rules", "add rule inet nowhere nothing accept")
            .unwrap_err()
            .to_string();
        assert!(
            why.contains("could not set the rules: nft: ") && why.contains("No such file"),
            "{why}"
        );
    }

    #[test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    fn no_connections_are_no_error() {
        conntrack("forget nobody's connections", &["-D", "-s", "203.0.113.199"]).unwrap();
    }
}
