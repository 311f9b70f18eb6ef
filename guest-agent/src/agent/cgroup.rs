//! Two cgroups: one protects the agent's memory and CPU, the other limits the attempt.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
/// The memory that is left to the kernel and the agent when a run takes all it can get. A run must
/// meet its own limit before the kernel meets the machine's limit. At the machine's limit the
/// kernel may find no more process to kill, because shared memory outlives the processes that
/// filled it; then it panics.
const HEADROOM: u64 = 48 << 20;
/// The approximate cost of a process in the kernel. Without this limit, many processes would be a
/// way around the memory limit.
const BYTES_PER_PROCESS: u64 = 128 << 10;
const MAX_PROCESSES: u64 = 4096;
/// PID 1 of an attempt is ours, and not counted as its own.
const LAUNCHER: u64 = 1;

/// A file of the cgroup tree that couldn't be used.
#[derive(Debug, thiserror::Error)]
#[error("{} could not be {done}", path.display())]
pub struct CgroupError {
    path: PathBuf,
    done: &'static str,
    #[source]
    why: io::Error,
}

fn write(dir: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    let path = dir.join(file);
    fs::write(&path, value).map_err(|why| CgroupError { path, done: "written", why })
}

fn create(dir: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(dir) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => {
            Err(CgroupError { path: dir.to_owned(), done: "created", why })
        }
        _ => Ok(()),
    }
}

/// At boot: switches the controllers on and moves the agent into its own group.
pub fn prepare() -> Result<(), CgroupError> {
    let root = Path::new(ROOT);
    let agent = root.join("agent");
    create(&agent)?;
    write(&agent, "cgroup.procs", "0")?;
    write(root, "cgroup.subtree_control", "+cpu +memory +pids")?;
    write(&agent, "memory.min", &(HEADROOM / 2).to_string())?;
    write(&agent, "cpu.weight", "10000")
}

/// The cgroup of one attempt. Removed when dropped, if it is empty then.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    /// The number of processes that its memory carries.
    processes: u64,
}

impl Group {
    /// A fresh group below the root, with limits from the memory that is available now.
    pub fn create(name: &str, memory_available: u64) -> Result<Self, CgroupError> {
        let path = Path::new(ROOT).join(name);
        create(&path)?;
        let memory = memory_available.saturating_sub(HEADROOM).max(memory_available / 2);
        write(&path, "memory.max", &memory.to_string())?;
        let processes = process_limit(memory);
        write(&path, "pids.max", &processes.to_string())?;
        Ok(Self { path, processes })
    }

    /// No more processes than `most`, nor than its memory carries. Its launcher is one of them.
    pub fn limit_processes(&self, most: u32) -> Result<(), CgroupError> {
        let most = u64::from(most).saturating_add(LAUNCHER).min(self.processes);
        write(&self.path, "pids.max", &most.to_string())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends SIGTERM to every process in it and below. The launcher ignores it, because it is PID 1
    /// of its namespace.
    pub fn terminate(&self) {
        for line in self.read("cgroup.procs").lines() {
            let Some(pid) = line.parse().ok().and_then(rustix::process::Pid::from_raw) else {
                continue;
            };
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    /// Sends SIGKILL to every process in it and below, including those being forked right now.
    pub fn kill(&self) {
        let _ = write(&self.path, "cgroup.kill", "1");
    }

    /// Whether no process is left.
    pub fn is_empty(&self) -> bool {
        self.field("cgroup.events", "populated") == 0
    }

    /// The number of processes that the kernel killed because memory ran out.
    pub fn oom_kills(&self) -> u64 {
        self.field("memory.events", "oom_kill")
    }

    pub fn memory_bytes(&self) -> u64 {
        self.read("memory.current").trim().parse().unwrap_or(0)
    }

    pub fn processes(&self) -> u64 {
        self.read("pids.current").trim().parse().unwrap_or(0)
    }

    pub fn cpu_micros(&self) -> u64 {
        self.field("cpu.stat", "usage_usec")
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap_or_default()
    }

    fn field(&self, file: &str, name: &str) -> u64 {
        let text = self.read(file);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A root run may have made groups below its own.
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&self.path);
    }
}

fn process_limit(memory: u64) -> u64 {
    (memory / BYTES_PER_PROCESS).clamp(256, MAX_PROCESSES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_machines_get_fewer_processes() {
        assert_eq!(process_limit(464 << 20), 3712);
        assert_eq!(process_limit(4 << 30), 4096);
        assert_eq!(process_limit(0), 256);
    }
}
