//! An agent process and all of its descendants: they begin in a session of their own, and are
//! stopped, continued and killed as a whole.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agentvm_files::ProcessStat;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// So long may an agent take until it listens.
const LISTEN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// A process, told from a later one with the same number by when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    pid: i32,
    began: u64,
}

impl Agent {
    /// Starts `binary` for the machine in `dir` and waits until it listens. `golden` is the nonce
    /// that a real agent would know from its template.
    pub fn spawn(binary: &Path, dir: &Path, golden: Option<&str>) -> std::io::Result<Self> {
        let log = std::fs::File::create(dir.join("agent.log"))?;
        let socket = dir.join("agent.sock");
        let mut command = Command::new("setsid");
        command.arg(binary).arg("--socket").arg(&socket).arg("--workspace").arg(dir.join("share"));
        if let Some(golden) = golden {
            command.env("AGENTVM_GOLDEN", golden);
        }
        command.current_dir(dir).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(std::io::Error::other)?;
        let agent = Self { pid, began: ProcessStat::of(pid).map_or(0, |s| s.started) };
        // Somebody has to take its exit status while this process lives, or it stays a zombie.
        std::thread::spawn(move || child.wait());
        let deadline = Instant::now() + LISTEN;
        while !listens(&socket) {
            if !agent.is_alive() || Instant::now() > deadline {
                agent.kill(dir);
                let said = std::fs::read_to_string(dir.join("agent.log")).unwrap_or_default();
                return Err(std::io::Error::other(format!(
                    "the agent {} never listened: {said}",
                    binary.display()
                )));
            }
            std::thread::sleep(POLL);
        }
        Ok(agent)
    }

    /// Agents of the machine in `dir`, by their command lines.
    pub fn strays(dir: &Path) -> Vec<Self> {
        let socket = dir.join("agent.sock").into_os_string().into_encoded_bytes();
        let is_agent = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|argument| argument == socket)
        };
        let all = processes().into_iter().filter(|(pid, _)| is_agent(pid));
        all.map(|(pid, stat)| Self { pid, began: stat.started }).collect()
    }

    /// Resident bytes, and its own bytes among them.
    pub fn memory(self) -> Option<(u64, u64)> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let bytes = |field: &str| -> Option<u64> {
            let value = text.lines().find_map(|line| line.strip_prefix(field))?;
            value.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        Some((bytes("VmRSS:")?, bytes("RssAnon:")?))
    }

    pub fn is_alive(self) -> bool {
        ProcessStat::of(self.pid).is_ok_and(|s| s.started == self.began && s.state != 'Z')
    }

    pub fn is_stopped(self) -> bool {
        ProcessStat::of(self.pid)
            .is_ok_and(|s| s.started == self.began && matches!(s.state, 'T' | 't'))
    }

    /// Stops the whole machine. The agent first, so that it starts nothing more.
    pub fn stop(self, dir: &Path) {
        self.signal(Signal::STOP);
        for pid in self.tree(dir) {
            send(pid, Signal::STOP);
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        while self.is_alive() && !self.is_stopped() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets the whole machine go on.
    pub fn go_on(self, dir: &Path) {
        for pid in self.tree(dir) {
            send(pid, Signal::CONT);
        }
        self.signal(Signal::CONT);
    }

    /// Kills the whole machine and waits until nothing of it is left.
    pub fn kill(self, dir: &Path) {
        let deadline = Instant::now() + Duration::from_secs(5);
        self.signal(Signal::STOP);
        loop {
            let tree = self.tree(dir);
            for pid in &tree {
                send(*pid, Signal::KILL);
            }
            if tree.is_empty() {
                self.signal(Signal::KILL);
                if !self.is_alive() {
                    return;
                }
            }
            if Instant::now() > deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn signal(self, signal: Signal) {
        if self.is_alive() {
            send(self.pid, signal);
        }
    }

    /// The agent's descendants, and orphans that work in the machine's folder.
    fn tree(self, dir: &Path) -> BTreeSet<i32> {
        let all: HashMap<i32, ProcessStat> = processes();
        let mut found = BTreeSet::new();
        let mut roots = vec![self.pid];
        while let Some(parent) = roots.pop() {
            let children = all.iter().filter(|(_, s)| s.parent == parent).map(|(pid, _)| *pid);
            roots.extend(children.filter(|pid| found.insert(*pid)));
        }
        found.extend(all.keys().copied().filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/cwd"))
                .is_ok_and(|cwd| cwd.starts_with(dir.join("share")))
        }));
        found.remove(&self.pid);
        found
    }
}

/// This is the kernel's own list: asking by connecting would make a connection that the agent sees.
/// The flag is `__SO_ACCEPTCON`.
fn listens(socket: &Path) -> bool {
    let all = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    all.lines()
        .any(|line| line.contains(" 00010000 ") && line.ends_with(&*socket.to_string_lossy()))
}

fn processes() -> HashMap<i32, ProcessStat> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, ProcessStat::of(pid).ok()?)))
        .filter(|(_, s)| s.state != 'Z')
        .collect()
}

fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}
