//! Creation and reset of the fake's machines: each starts a new agent process in a folder that is
//! laid out from the golden.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use agentvm_core::names::DomainName;
use agentvm_types::Nonce;

use super::process::Agent;
use super::store::{Kept, Store};
use crate::files::{io, remove_tree, write_json};
use crate::{CreateStep, HvError, MachineSpec, Proof, ResetStep, Step};

impl Store {
    pub fn create(&self, spec: &MachineSpec) -> Result<(), HvError> {
        let golden = self.golden(&spec.record.golden);
        if !golden.join("golden.json").exists() {
            return Err(HvError::NoSuchGolden(spec.record.golden.clone()));
        }
        let layout = self
            .goldens()
            .into_iter()
            .find(|golden| golden.key == spec.record.golden)
            .map(|golden| golden.layout);
        if layout.is_some_and(|layout| layout != spec.record.layout()) {
            let detail = "its golden has other devices than it is to have".to_owned();
            return Err(HvError::Refused {
                what: format!("make machine {}", spec.record.name),
                detail,
            });
        }
        let nonce = self.told(&spec.record.golden);
        self.begin(
            &Kept { record: spec.record.clone(), resources: None },
            Some(&golden),
            nonce.as_ref(),
        )?;
        self.note_peak(&spec.record.owner_uid);
        self.limit(&spec.record.name, spec.limits)
    }

    /// The golden nonce that the next agent claims to have.
    fn told(&self, golden: &agentvm_core::names::GoldenKey) -> Option<Nonce> {
        let lie = self.knobs.lies().then(|| Nonce::from_bytes([0; 16]));
        lie.or_else(|| self.golden_nonce(golden))
    }

    /// Makes the machine, paused; does nothing when it is there already.
    pub fn begin(
        &self,
        kept: &Kept,
        golden: Option<&Path>,
        golden_nonce: Option<&Nonce>,
    ) -> Result<(), HvError> {
        let name = &kept.record.name;
        self.locks.with(name.as_str(), || {
            if let Some(there) = self.kept(name) {
                kept.record.refuse(Some(&there.record))?;
                if there.record.nonce != kept.record.nonce {
                    return Err(HvError::AlreadyExists(name.clone()));
                }
                if self.ready_file(name).exists() {
                    return Ok(());
                }
            }
            let dir = self.machine(name);
            // A template is not a copy: its steps belong to the capture.
            let before = |step| golden.map_or(Ok(()), |_| self.step(name, Step::Create(step)));
            before(CreateStep::LayOut)?;
            self.end_agents(name, &dir);
            lay_out(&dir, golden)?;
            write_json(&dir.join("record.json"), kept)?;
            before(CreateStep::Start)?;
            let agent = self.spawn(&dir, golden_nonce).inspect_err(|_| {
                let _ = fs::remove_dir_all(&dir);
            })?;
            before(CreateStep::Load)?;
            write_json(&dir.join("agent.pid"), &agent)?;
            before(CreateStep::Ready)?;
            write_json(&self.ready_file(name), &())
        })
    }

    /// An agent that stands still.
    fn spawn(&self, dir: &Path, golden_nonce: Option<&Nonce>) -> Result<Agent, HvError> {
        let agent = Agent::spawn(&self.agent_binary, dir, golden_nonce.map(Nonce::as_str))
            .map_err(io("start the agent of", dir))?;
        agent.stop(dir);
        Ok(agent)
    }

    /// The steps of libvirt. A real machine drops its pages; here its processes go.
    pub fn reset(&self, spec: &MachineSpec) -> Result<Proof, HvError> {
        let name = &spec.record.name;
        self.locks.with(name.as_str(), || {
            let agent = self.agent(name).filter(|agent| agent.is_alive());
            let agent = agent.ok_or_else(|| HvError::NoSuchMachine(name.clone()))?;
            if let Some(why) = self.outdated(name, &spec.limits) {
                return Err(HvError::NotResettable { name: name.clone(), why });
            }
            let mut run = ResetRun { store: self, name, proof: Proof::default() };
            run.step(ResetStep::Enter, || {
                self.unmark(name)?;
                self.close_link(name)?;
                remove_file(&self.ready_file(name))
            })?;
            let dir = self.machine(name);
            run.step(ResetStep::Stop, || {
                agent.stop(&dir);
                Ok(())
            })?;
            run.step(ResetStep::Drop, || {
                self.end_agents(name, &dir);
                Ok(())
            })?;
            run.step(ResetStep::Load, || remove_tree(&dir.join("share/work")))?;
            run.step(ResetStep::Share, || {
                lay_out(&dir, Some(&self.golden(&spec.record.golden)))?;
                let agent = self.spawn(&dir, self.told(&spec.record.golden).as_ref())?;
                write_json(&dir.join("agent.pid"), &agent)
            })?;
            run.step(ResetStep::Prove, || Ok(()))?;
            run.proof.checks = self.knobs.checks();
            if run.proof.failure().is_some() {
                return Err(HvError::NotProven { name: name.clone(), proof: Box::new(run.proof) });
            }
            let kept = Kept { record: spec.record.clone(), resources: None };
            run.step(ResetStep::Record, || write_json(&dir.join("record.json"), &kept))?;
            self.update_limits(name, &spec.limits)?;
            run.step(ResetStep::Ready, || write_json(&self.ready_file(name), &()))?;
            Ok(run.proof)
        })
    }
}

/// A reset that is being carried out.
struct ResetRun<'a> {
    store: &'a Store,
    name: &'a DomainName,
    proof: Proof,
}

impl ResetRun<'_> {
    fn step(
        &mut self,
        step: ResetStep,
        job: impl FnOnce() -> Result<(), HvError>,
    ) -> Result<(), HvError> {
        self.store.step(self.name, Step::Reset(step))?;
        let begun = Instant::now();
        job()?;
        // A step that takes no time at all would not be seen.
        self.proof.steps.push((step, begun.elapsed().max(Duration::from_micros(1))));
        Ok(())
    }
}

/// The folders of a new machine; nothing of the old content stays.
fn lay_out(dir: &Path, golden: Option<&Path>) -> Result<(), HvError> {
    remove_tree(&dir.join("share"))?;
    // Where the agent's surroundings are put together.
    remove_tree(&dir.join("root"))?;
    remove_file(&dir.join("agent.sock"))?;
    for folder in ["input", "output", "work", "secrets"] {
        let path = dir.join("share").join(folder);
        fs::create_dir_all(&path).map_err(io("make", &path))?;
    }
    match golden {
        Some(golden) => copy_tree(&golden.join("work"), &dir.join("share/work"))
            .map_err(io("copy the golden to", dir)),
        None => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), HvError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io("remove", path)(e)),
        _ => Ok(()),
    }
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
