//! The fake's machines and goldens on disk, without faults and without async.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use agentvm_core::names::{DomainName, GoldenKey, InstanceId, short_hash};
use serde::{Deserialize, Serialize};

use super::process::Agent;
use crate::files::{io, names_in, read_json, remove_tree, write_json};
use crate::locks::{Locks, lock};
use crate::{
    Accelerator, Golden, HostFacts, HvError, Machine, MachineKind, MachineRecord, MachineSpec, Mark, PowerState,
    Resources, TemplateSpec,
};

/// Goldens that aren't whole yet.
const HALF: &str = ".tmp-";

#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    agent: PathBuf,
    locks: Locks,
    peaks: Mutex<HashMap<String, usize>>,
}

/// What stands in `record.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    record: MachineRecord,
    /// Of a template: what its golden will say.
    resources: Option<Resources>,
}

pub fn facts() -> HostFacts {
    HostFacts {
        qemu_version: "0.0.0-fake".to_owned(),
        libvirt_version: "0.0.0-fake".to_owned(),
        kernel_version: "fake".to_owned(),
        accelerator: Accelerator::Tcg { why: "machines are processes".to_owned() },
        cpu_model: "fake".to_owned(),
        cpus: 4,
        memory_mib: 16 * 1024,
        vsock: false,
    }
}

impl Store {
    pub fn new(dir: PathBuf, agent: PathBuf) -> Self {
        Self { dir, agent, locks: Locks::default(), peaks: Mutex::default() }
    }

    pub fn instance(&self) -> InstanceId {
        // The folder has to be there for its canonical name, which is what stays the same.
        let _ = fs::create_dir_all(&self.dir);
        let path = self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone());
        InstanceId::for_state_dir(&path.to_string_lossy())
    }

    fn machine(&self, name: &DomainName) -> PathBuf {
        self.dir.join("machines").join(name.as_str())
    }

    fn golden(&self, key: &GoldenKey) -> PathBuf {
        self.dir.join("goldens").join(key.as_str())
    }

    pub fn share(&self, name: &DomainName) -> PathBuf {
        self.machine(name).join("share")
    }

    pub fn existing_share(&self, name: &DomainName) -> Result<PathBuf, HvError> {
        self.kept(name).map(|_| self.share(name)).ok_or_else(|| HvError::NoSuchMachine(name.clone()))
    }

    pub fn socket(&self, name: &DomainName) -> Result<PathBuf, HvError> {
        self.existing_share(name)?;
        Ok(self.machine(name).join("agent.sock"))
    }

    fn kept(&self, name: &DomainName) -> Option<Kept> {
        read_json(&self.machine(name).join("record.json"))
    }

    fn agent(&self, name: &DomainName) -> Option<Agent> {
        read_json(&self.machine(name).join("agent.pid"))
    }

    pub fn boot_template(&self, spec: &TemplateSpec) -> Result<(), HvError> {
        let kept = Kept { record: spec.record.clone(), resources: Some(spec.resources.clone()) };
        let agent = self.begin(&kept, None)?;
        let dir = self.machine(&spec.record.name);
        if let Some(agent) = agent {
            agent.go_on(&dir);
        }
        Ok(())
    }

    pub fn create(&self, spec: &MachineSpec) -> Result<(), HvError> {
        let golden = self.golden(&spec.record.golden);
        if !golden.join("golden.json").exists() {
            return Err(HvError::NoSuchGolden(spec.record.golden.clone()));
        }
        self.begin(&Kept { record: spec.record.clone(), resources: None }, Some(&golden))?;
        self.note_peak(&spec.record.owner_uid);
        Ok(())
    }

    /// Makes the machine, paused. `None`: it was there already.
    fn begin(&self, kept: &Kept, golden: Option<&Path>) -> Result<Option<Agent>, HvError> {
        let name = &kept.record.name;
        self.locks.with(name.as_str(), || {
            if let Some(there) = self.kept(name) {
                if there.record.nonce != kept.record.nonce {
                    return Err(HvError::AlreadyExists(name.clone()));
                }
                if self.agent(name).is_some() {
                    return Ok(None);
                }
            }
            let dir = self.machine(name);
            lay_out(&dir, kept, golden)?;
            let agent = Agent::spawn(&self.agent, &dir).map_err(io("start the agent of", &dir));
            let agent = agent.inspect_err(|_| {
                let _ = fs::remove_dir_all(&dir);
            })?;
            agent.stop(&dir);
            write_json(&dir.join("agent.pid"), &agent)?;
            Ok(Some(agent))
        })
    }

    fn note_peak(&self, owner_uid: &str) {
        let mut peaks = lock(&self.peaks);
        let now = self.records().iter().filter(|k| k.record.owner_uid == owner_uid).count();
        let peak = peaks.entry(owner_uid.to_owned()).or_default();
        *peak = now.max(*peak);
    }

    pub fn peak(&self, owner_uid: &str) -> usize {
        lock(&self.peaks).get(owner_uid).copied().unwrap_or(0)
    }

    pub fn set_paused(&self, name: &DomainName, paused: bool) -> Result<(), HvError> {
        self.locks.with(name.as_str(), || match self.state(name) {
            PowerState::Absent => Err(HvError::NoSuchMachine(name.clone())),
            PowerState::Dead { why } => {
                Err(HvError::Refused { what: format!("pause or resume machine {name}"), detail: why })
            }
            PowerState::Paused | PowerState::Running => {
                let dir = self.machine(name);
                match self.agent(name) {
                    Some(agent) if paused => agent.stop(&dir),
                    Some(agent) => agent.go_on(&dir),
                    None => {}
                }
                Ok(())
            }
        })
    }

    pub fn state(&self, name: &DomainName) -> PowerState {
        if self.kept(name).is_none() {
            return PowerState::Absent;
        }
        match self.agent(name) {
            None => PowerState::Dead { why: "its creation was interrupted".to_owned() },
            Some(agent) if !agent.is_alive() => PowerState::Dead { why: "its process has ended".to_owned() },
            Some(agent) if agent.is_stopped() => PowerState::Paused,
            Some(_) => PowerState::Running,
        }
    }

    pub fn kill(&self, name: &DomainName) -> Result<(), HvError> {
        let agent = self.agent(name).ok_or_else(|| HvError::NoSuchMachine(name.clone()))?;
        agent.kill(&self.machine(name));
        Ok(())
    }

    pub fn destroy(&self, name: &DomainName) -> Result<(), HvError> {
        self.locks.with(name.as_str(), || {
            let dir = self.machine(name);
            // Who was killed while it made a machine may have started an agent and not written down which.
            for agent in self.agent(name).into_iter().chain(Agent::strays(&dir)) {
                agent.kill(&dir);
            }
            remove_tree(&dir)
        })
    }

    pub fn destroy_all(&self) {
        for kept in self.records() {
            let _ = self.destroy(&kept.record.name);
        }
    }

    fn records(&self) -> Vec<Kept> {
        let names = names_in(&self.dir.join("machines")).into_iter();
        names.filter_map(|name| self.kept(&DomainName::from_recorded(name))).collect()
    }

    pub fn list(&self) -> Vec<Machine> {
        let machines = self.records().into_iter().map(|kept| {
            let state = self.state(&kept.record.name);
            Machine { record: kept.record, state, mark: Mark::None }
        });
        let mut machines: Vec<Machine> = machines.filter(|m| m.state != PowerState::Absent).collect();
        machines.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        machines
    }

    pub fn capture(&self, template: &DomainName, guest: &str) -> Result<Golden, HvError> {
        let kept = self.kept(template).ok_or_else(|| HvError::NoSuchMachine(template.clone()))?;
        let MachineRecord { golden: key, namespace, owner, owner_uid, .. } = kept.record;
        let target = self.golden(&key);
        let started = fs::metadata(self.machine(template).join("record.json")).and_then(|m| m.modified()).ok();
        self.kill(template)?;
        let golden = Golden {
            digest: format!("sha256:{}", short_hash(&[key.as_str()], 64)),
            key,
            resources: kept.resources.unwrap_or(Resources {
                vcpus: 1,
                memory_mib: 1024,
                disk_gib: 10,
                cpu_shares: 1024,
            }),
            memory_bytes: 0,
            captured: now(),
            boot_millis: started.and_then(|t| t.elapsed().ok()).map_or(0, |t| t.as_millis().try_into().unwrap_or(0)),
            namespace,
            owner,
            owner_uid,
            guest: guest.to_owned(),
        };
        let half = self.dir.join("goldens").join(format!("{HALF}{}", golden.key));
        remove_tree(&half)?;
        fs::create_dir_all(&half).map_err(io("make", &half))?;
        let work = self.share(template).join("work");
        fs::rename(&work, half.join("work")).map_err(io("keep", &work))?;
        write_json(&half.join("golden.json"), &golden)?;
        remove_tree(&target)?;
        fs::rename(&half, &target).map_err(io("finish", &target))?;
        self.destroy(template)?;
        Ok(golden)
    }

    pub fn goldens(&self) -> Vec<Golden> {
        let dir = self.dir.join("goldens");
        let whole = names_in(&dir).into_iter().filter(|name| !name.starts_with(HALF));
        whole.filter_map(|name| read_json(&dir.join(name).join("golden.json"))).collect()
    }

    pub fn remove_golden(&self, key: &GoldenKey) -> Result<(), HvError> {
        remove_tree(&self.golden(key))
    }

    /// As libvirt's: half captures, templates that nobody drives any more, folders without a record.
    pub fn sweep(&self) -> Result<Vec<String>, HvError> {
        let mut swept = Vec::new();
        for kept in self.records().into_iter().filter(|k| k.record.kind == MachineKind::Template) {
            self.destroy(&kept.record.name)?;
            swept.push(format!("template {}", kept.record.name));
        }
        let (machines, goldens) = (self.dir.join("machines"), self.dir.join("goldens"));
        let half_machines = names_in(&machines).into_iter().map(|name| machines.join(name));
        let half_goldens = names_in(&goldens).into_iter().filter(|name| name.starts_with(HALF));
        let debris = half_machines.filter(|dir| !dir.join("record.json").exists());
        for path in debris.chain(half_goldens.map(|name| goldens.join(name))) {
            remove_tree(&path)?;
            swept.push(path.display().to_string());
        }
        Ok(swept)
    }
}

fn lay_out(dir: &Path, kept: &Kept, golden: Option<&Path>) -> Result<(), HvError> {
    for folder in ["input", "output", "work", "secrets"] {
        let path = dir.join("share").join(folder);
        fs::create_dir_all(&path).map_err(io("make", &path))?;
    }
    if let Some(golden) = golden {
        copy_tree(&golden.join("work"), &dir.join("share/work")).map_err(io("copy the golden to", dir))?;
    }
    write_json(&dir.join("record.json"), kept)
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs().try_into().unwrap_or(i64::MAX))
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
