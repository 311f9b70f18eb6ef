//! An operator in a process of its own, that can be killed.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use agentvm_controlplane::test_support;

use crate::{Error, World, agent_binary};

/// Killed when it goes out of scope.
#[derive(Debug)]
pub struct Outside(Child);

impl Outside {
    /// Starts `binary` (`fake-operator`) on the world's machines and namespace.
    pub async fn start(binary: &Path, world: &World) -> Result<Self, Error> {
        let log = File::options().create(true).append(true).open(world.folder.join("operator.log"))?;
        let mut command = Command::new(binary);
        command.arg(test_support::shared().await?.kubeconfig_path()).arg(&world.bench.namespace);
        command.arg(&world.folder).arg(agent_binary()).stdin(Stdio::null()).stderr(log);
        Ok(Self(command.spawn()?))
    }

    /// As `kill -9` does; nothing of it can object.
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
