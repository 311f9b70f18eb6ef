//! The fake's machines and goldens on disk, without faults and without async: their places and
//! their content.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use agentvm_core::names::{DomainName, GoldenKey, InstanceId};
use agentvm_types::OwnerUid;
use serde::{Deserialize, Serialize};

use super::knobs::Knobs;
use super::network::Network;
use super::process::Agent;
use crate::files::{names_in, read_json, remove_tree};
use crate::locks::{Locks, lock};
use crate::{HvError, Machine, MachineRecord, PowerState, Resources, Step};

/// Goldens that aren't whole yet.
pub const HALF: &str = ".tmp-";

#[derive(Debug)]
pub struct Store {
    pub dir: PathBuf,
    /// The agent's program.
    pub agent_binary: PathBuf,
    pub locks: Locks,
    pub knobs: Arc<Knobs>,
    pub network: Network,
    peaks: Mutex<HashMap<OwnerUid, usize>>,
}

/// The content of `record.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    pub record: MachineRecord,
    /// The size of a template, for its golden; `None` for a machine.
    pub resources: Option<Resources>,
}

impl Store {
    pub fn new(dir: PathBuf, agent_binary: PathBuf, knobs: Arc<Knobs>) -> Self {
        Self {
            dir,
            agent_binary,
            locks: Locks::default(),
            knobs,
            network: Network::default(),
            peaks: Mutex::default(),
        }
    }

    pub fn instance(&self) -> InstanceId {
        // The folder must exist for its canonical name, which never changes.
        let _ = fs::create_dir_all(&self.dir);
        let path = self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone());
        InstanceId::for_state_dir(&path.to_string_lossy())
    }

    pub fn machine(&self, name: &DomainName) -> PathBuf {
        self.dir.join("machines").join(name.as_str())
    }

    pub fn golden(&self, key: &GoldenKey) -> PathBuf {
        self.dir.join("goldens").join(key.as_str())
    }

    pub fn share(&self, name: &DomainName) -> PathBuf {
        self.machine(name).join("share")
    }

    pub fn existing_share(&self, name: &DomainName) -> Result<PathBuf, HvError> {
        self.kept(name)
            .map(|_| self.share(name))
            .ok_or_else(|| HvError::NoSuchMachine(name.clone()))
    }

    pub fn socket(&self, name: &DomainName) -> Result<PathBuf, HvError> {
        self.existing_share(name)?;
        Ok(self.machine(name).join("agent.sock"))
    }

    pub fn kept(&self, name: &DomainName) -> Option<Kept> {
        read_json(&self.machine(name).join("record.json"))
    }

    pub fn agent(&self, name: &DomainName) -> Option<Agent> {
        read_json(&self.machine(name).join("agent.pid"))
    }

    /// Written last when a machine is made, removed first when it is reset: without it the machine
    /// is half made.
    pub fn ready_file(&self, name: &DomainName) -> PathBuf {
        self.machine(name).join("ready")
    }

    /// Asks the fault hook before a step.
    pub fn step(&self, name: &DomainName, step: Step) -> Result<(), HvError> {
        self.knobs.hook().permit(name, step)
    }

    pub fn note_peak(&self, owner_uid: &OwnerUid) {
        let mut peaks = lock(&self.peaks);
        let now = self.records().iter().filter(|k| k.record.owner_uid == *owner_uid).count();
        let peak = peaks.entry(owner_uid.clone()).or_default();
        *peak = now.max(*peak);
    }

    pub fn peak(&self, owner_uid: &OwnerUid) -> usize {
        lock(&self.peaks).get(owner_uid).copied().unwrap_or(0)
    }

    pub fn kill(&self, name: &DomainName) -> Result<(), HvError> {
        let agent = self.agent(name).ok_or_else(|| HvError::NoSuchMachine(name.clone()))?;
        agent.kill(&self.machine(name));
        Ok(())
    }

    pub fn destroy(&self, name: &DomainName) -> Result<(), HvError> {
        self.locks.with(name.as_str(), || {
            let dir = self.machine(name);
            self.end_agents(name, &dir);
            remove_tree(&dir)
        })
    }

    /// A process that was killed while it made or reset a machine may have started an agent without
    /// recording it.
    pub fn end_agents(&self, name: &DomainName, dir: &Path) {
        for agent in self.agent(name).into_iter().chain(Agent::strays(dir)) {
            agent.kill(dir);
        }
    }

    pub fn destroy_all(&self) {
        for kept in self.records() {
            let _ = self.destroy(&kept.record.name);
        }
    }

    pub fn records(&self) -> Vec<Kept> {
        let names = names_in(&self.dir.join("machines")).into_iter();
        names.filter_map(|name| self.kept(&DomainName::from_recorded(name))).collect()
    }

    pub fn list(&self) -> Vec<Machine> {
        let machines = self.records().into_iter().map(|kept| {
            let (state, mark) = (self.state(&kept.record.name), self.mark(&kept.record.name));
            Machine { record: kept.record, state, mark }
        });
        let mut machines: Vec<Machine> =
            machines.filter(|m| m.state != PowerState::Absent).collect();
        machines.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        machines
    }
}
