//! Identifies a process by its number and its start time. A number alone is reused sooner or later.

use std::io;

use agentvm_files::ProcessStat;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

/// The identity of a process. A later process with the same number has another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    pub pid: i32,
    /// In clock ticks since the host's boot.
    start_ticks: u64,
}

impl ProcessId {
    /// The calling process.
    pub fn current() -> io::Result<Self> {
        Self::of(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// The living process with this number. A zombie does not count.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = ProcessStat::of(pid)?;
        match stat.state {
            'Z' | 'X' => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(Self { pid, start_ticks: stat.started }),
        }
    }

    /// Whether the process still runs.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == self)
    }

    /// Sends a signal, if the process still runs.
    pub fn signal(self, signal: Signal) {
        if let (true, Some(pid)) = (self.is_alive(), Pid::from_raw(self.pid)) {
            // The process may have ended meanwhile, which is the aim of our signals.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_lives_until_it_ends_even_if_nobody_waits_for_it() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let id = ProcessId::of(child.id().try_into().unwrap()).unwrap();
        assert!(id.is_alive());
        id.signal(Signal::KILL);
        let clock = crate::clock::Clock::system();
        let deadline = clock.instant() + std::time::Duration::from_secs(10);
        while id.is_alive() {
            assert!(clock.instant() < deadline);
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!id.is_alive());
    }

    #[test]
    fn another_process_of_the_same_number_is_another() {
        let now = ProcessId::current().unwrap();
        assert!(now.is_alive());
        assert!(!ProcessId { start_ticks: now.start_ticks + 1, ..now }.is_alive());
    }
}
