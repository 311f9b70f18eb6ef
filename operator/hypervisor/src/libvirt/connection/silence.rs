//! Bounds the calls that wait for the monitor of a machine's QEMU.
//!
//! libvirt waits for a QEMU's answer without a limit, and the thread that asked waits with it. So a
//! QEMU that is stuck, or was taken over, could take the threads of all machines, one after the
//! other. It costs its own machine only: at most one claim's call waits for a machine, and a QEMU
//! that does not answer in time is killed, which ends the call.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agentvm_core::names::DomainName;

use crate::HvError;
use crate::libvirt::qemu::process;
use crate::locks::lock;

/// The pause between two looks where no call waits.
const IDLE: Duration = Duration::from_hours(1);

/// The calls that wait for a monitor now.
#[derive(Debug)]
pub struct Monitors {
    shared: Arc<Shared>,
    limit: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    calls: Mutex<Calls>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Calls {
    next: u64,
    waiting: BTreeMap<u64, Call>,
    /// The owner is gone, so the thread ends.
    over: bool,
}

#[derive(Debug)]
struct Call {
    name: DomainName,
    deadline: Instant,
    alone: bool,
    killed: bool,
}

impl Monitors {
    /// `limit` is the time that a QEMU has for an answer.
    pub fn start(limit: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("libvirt-silence".to_owned())
            .spawn(move || watch(&watched, &kill))?;
        Ok(Self { shared, limit })
    }

    /// A call of a claim: no second one waits for the machine.
    pub fn alone<T>(
        &self,
        name: &DomainName,
        what: &str,
        call: impl FnOnce() -> Result<T, HvError>,
    ) -> Result<T, HvError> {
        self.bounded(name, what, true, call)
    }

    /// A call of another lane.
    pub fn beside<T>(
        &self,
        name: &DomainName,
        what: &str,
        call: impl FnOnce() -> Result<T, HvError>,
    ) -> Result<T, HvError> {
        self.bounded(name, what, false, call)
    }

    fn bounded<T>(
        &self,
        name: &DomainName,
        what: &str,
        alone: bool,
        call: impl FnOnce() -> Result<T, HvError>,
    ) -> Result<T, HvError> {
        let refuse = |detail: String| {
            Err(HvError::Refused { what: format!("{what} machine {name}"), detail })
        };
        let Some(id) = self.shared.begin(name, Instant::now() + self.limit, alone) else {
            return refuse("an earlier call still waits for its QEMU".to_owned());
        };
        let ending = Ending { shared: &self.shared, id };
        let done = call();
        if ending.end() {
            let seconds = self.limit.as_secs();
            return refuse(format!("its QEMU did not answer for {seconds} s and was killed"));
        }
        done
    }
}

impl Drop for Monitors {
    fn drop(&mut self) {
        lock(&self.shared.calls).over = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn begin(&self, name: &DomainName, deadline: Instant, alone: bool) -> Option<u64> {
        let mut calls = lock(&self.calls);
        if alone && calls.waiting.values().any(|call| call.alone && call.name == *name) {
            return None;
        }
        calls.next += 1;
        let id = calls.next;
        calls.waiting.insert(id, Call { name: name.clone(), deadline, alone, killed: false });
        // All calls have the same time, so only the first one changes the next deadline.
        if calls.waiting.len() == 1 {
            self.changed.notify_all();
        }
        Some(id)
    }
}

/// Takes a call off the list, also when it panics.
struct Ending<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Ending<'_> {
    /// Whether the QEMU was killed meanwhile.
    fn end(self) -> bool {
        lock(&self.shared.calls).waiting.get(&self.id).is_some_and(|call| call.killed)
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        lock(&self.shared.calls).waiting.remove(&self.id);
    }
}

/// Kills each QEMU whose time is over. A call whose QEMU was killed is not looked at again.
fn watch(shared: &Shared, kill: &dyn Fn(&DomainName)) {
    let mut calls = lock(&shared.calls);
    while !calls.over {
        let now = Instant::now();
        let late = calls.waiting.values_mut().filter(|call| !call.killed && call.deadline <= now);
        let late: Vec<DomainName> = late
            .map(|call| {
                call.killed = true;
                call.name.clone()
            })
            .collect();
        if !late.is_empty() {
            drop(calls);
            late.iter().for_each(kill);
            calls = lock(&shared.calls);
            continue;
        }
        let deadlines =
            calls.waiting.values().filter(|call| !call.killed).map(|call| call.deadline);
        // Without a call, it sleeps until there is one.
        let wait = deadlines.min().map_or(IDLE, |deadline| deadline.saturating_duration_since(now));
        let woken = shared.changed.wait_timeout(calls, wait);
        calls = woken.unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn kill(name: &DomainName) {
    tracing::error!(%name, "its QEMU does not answer and is killed");
    if let Err(why) = process::kill(name) {
        tracing::warn!(%name, error = &why as &dyn std::error::Error,
            "a QEMU that does not answer could not be killed");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn name(of: &str) -> DomainName {
        DomainName::from_recorded(of.to_owned())
    }

    #[test]
    fn one_call_waits_for_a_machine_and_other_machines_go_on() {
        let monitors = Monitors::start(Duration::from_mins(1)).unwrap();
        let (answer, answered) = channel::<()>();
        let (begun, has_begun) = channel();
        std::thread::scope(|scope| {
            let monitors = &monitors;
            let stuck = scope.spawn(move || {
                let wait = || {
                    begun.send(()).unwrap();
                    Ok(answered.recv().is_ok())
                };
                monitors.alone(&name("a"), "pause", wait)
            });
            has_begun.recv().unwrap();
            let second = monitors.alone(&name("a"), "pause", || Ok(())).unwrap_err();
            assert!(second.to_string().contains("earlier call"), "{second}");
            monitors.alone(&name("b"), "resume", || Ok(())).unwrap();
            monitors.beside(&name("a"), "limit", || Ok(())).unwrap();
            answer.send(()).unwrap();
            assert!(stuck.join().unwrap().unwrap());
        });
        monitors.alone(&name("a"), "resume", || Ok(())).unwrap();
    }

    #[test]
    fn a_qemu_whose_time_is_over_is_killed_once_and_its_call_says_so() {
        let shared = Arc::new(Shared::default());
        let monitors = Monitors { shared: Arc::clone(&shared), limit: Duration::ZERO };
        let (killed, was_killed) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| watch(&shared, &|name| killed.send(name.clone()).unwrap()));
            let why = monitors.alone(&name("a"), "pause", || Ok(was_killed.recv().unwrap()));
            let why = why.unwrap_err().to_string();
            assert!(why.contains("did not answer") && why.contains("pause machine a"), "{why}");
            drop(monitors);
        });
        assert!(was_killed.try_recv().is_err(), "once");
    }
}
