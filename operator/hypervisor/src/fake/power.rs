//! Pausing, resuming, and the marks of the fake's machines, in a place where no run can write.

use std::fs;

use agentvm_core::names::DomainName;

use super::store::Store;
use crate::files::{io, read_json, write_json};
use crate::{HvError, Mark, PowerState, Usage};

impl Store {
    pub fn set_paused(&self, name: &DomainName, paused: bool) -> Result<(), HvError> {
        self.locks.with(name.as_str(), || self.pause_or_not(name, paused))
    }

    fn pause_or_not(&self, name: &DomainName, paused: bool) -> Result<(), HvError> {
        match self.state(name) {
            PowerState::Absent => Err(HvError::NoSuchMachine(name.clone())),
            PowerState::Dead { why } => Err(HvError::Refused {
                what: format!("pause or resume machine {name}"),
                detail: why,
            }),
            PowerState::Paused | PowerState::Running => {
                let dir = self.machine(name);
                match self.agent(name) {
                    Some(agent) if paused => agent.stop(&dir),
                    Some(agent) => agent.go_on(&dir),
                    None => {}
                }
                Ok(())
            }
        }
    }

    /// The mark goes first: a machine that moves is never found to be parked.
    pub fn resume(&self, name: &DomainName) -> Result<(), HvError> {
        self.locks.with(name.as_str(), || {
            if self.state(name) != PowerState::Absent {
                self.unmark(name)?;
            }
            self.pause_or_not(name, false)
        })
    }

    /// Stops it, then says why.
    pub fn set_mark(&self, name: &DomainName, mark: &Mark) -> Result<(), HvError> {
        self.locks.with(name.as_str(), || {
            // One that failed its proof may be half of a machine, which stands still by itself.
            match (self.state(name), mark) {
                (PowerState::Dead { .. }, Mark::Quarantined { .. }) => {
                    if let Some(agent) = self.agent(name) {
                        agent.stop(&self.machine(name));
                    }
                }
                _ => self.pause_or_not(name, true)?,
            }
            write_json(&self.machine(name).join("mark.json"), mark)
        })
    }

    pub fn mark(&self, name: &DomainName) -> Mark {
        read_json(&self.machine(name).join("mark.json")).unwrap_or_default()
    }

    pub fn unmark(&self, name: &DomainName) -> Result<(), HvError> {
        let path = self.machine(name).join("mark.json");
        match fs::remove_file(&path) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(io("remove", &path)(why)),
            _ => Ok(()),
        }
    }

    pub fn state(&self, name: &DomainName) -> PowerState {
        if self.kept(name).is_none() {
            return PowerState::Absent;
        }
        match self.agent(name) {
            _ if !self.ready_file(name).exists() => {
                PowerState::Dead { why: "its creation or its reset was interrupted".to_owned() }
            }
            None => PowerState::Dead { why: "its process is not known".to_owned() },
            Some(agent) if !agent.is_alive() => {
                PowerState::Dead { why: "its process has ended".to_owned() }
            }
            Some(agent) if agent.is_stopped() => PowerState::Paused,
            Some(_) => PowerState::Running,
        }
    }

    pub fn usage(&self, name: &DomainName) -> Result<Usage, HvError> {
        let agent = self.agent(name).ok_or_else(|| HvError::NoSuchMachine(name.clone()))?;
        let (resident_bytes, unshared_bytes) =
            agent.memory().ok_or_else(|| HvError::NoSuchMachine(name.clone()))?;
        Ok(Usage { unshared_bytes, resident_bytes })
    }
}
