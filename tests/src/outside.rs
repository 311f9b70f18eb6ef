//! An operator in a process of its own, which tests can kill.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use agentvm_hypervisor::Step;

use crate::{Error, World, agent_binary};

/// Names the step before which `fake-operator` ends itself, as JSON.
pub const DIE_AT: &str = "AGENTVM_DIE_AT";
/// The number, from 1, of the resume that `fake-operator` never carries out.
pub const HANG_AT: &str = "AGENTVM_HANG_AT_RESUME";

/// The process is killed when this value goes out of scope.
#[derive(Debug)]
pub struct Outside(Child);

impl Outside {
    /// Starts `binary` (`fake-operator`) on the world's machines and namespace.
    pub fn start(binary: &Path, world: &World) -> Result<Self, Error> {
        Self::begin(binary, world, None)
    }

    /// Starts it so that the `nth` resume of a machine never ends.
    pub fn start_and_hang_at_resume(binary: &Path, world: &World, nth: u64) -> Result<Self, Error> {
        Self::begin(binary, world, Some((HANG_AT, nth.to_string())))
    }

    /// Starts it so that it ends, as if killed, before it takes this step for the first time.
    pub fn start_and_die_at(binary: &Path, world: &World, step: Step) -> Result<Self, Error> {
        Self::begin(binary, world, Some((DIE_AT, serde_json::to_string(&step)?)))
    }

    fn begin(binary: &Path, world: &World, fault: Option<(&str, String)>) -> Result<Self, Error> {
        let log =
            File::options().create(true).append(true).open(world.folder.join("operator.log"))?;
        let mut command = Command::new(binary);
        command.arg(world.bench.kubeconfig()).arg(&world.bench.namespace);
        command.arg(&world.folder).arg(agent_binary()).stdin(Stdio::null()).stderr(log);
        command.envs(fault);
        Ok(Self(command.spawn()?))
    }

    /// Has it ended by itself?
    pub fn has_ended(&mut self) -> Result<bool, Error> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Kills it like `kill -9`: no code of it can object.
    pub fn kill(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
