//! A machine that is only a namespace with a process in it: as fast as the host, so that nothing hides what the rules cost.

use std::process::{Child, Command};

use super::namespace::Namespace;
use super::talk;
use crate::error::{BenchError, step};

/// What runs `talk.py` here, as a machine's own does there.
pub const PYTHON: &str = "python3";
/// Its end of the wire.
pub const DEVICE: &str = "eth0";

/// Gone with the value.
#[derive(Debug)]
pub struct StandIn {
    _namespace: Namespace,
    process: Child,
}

impl StandIn {
    /// `commands` give [`DEVICE`], which is in the namespace already, what a machine is told of its network.
    pub async fn start(namespace: Namespace, commands: String) -> Result<Self, BenchError> {
        namespace.ip(commands).await?;
        let start = || {
            let mut python = Command::new(PYTHON);
            python.args(["-c", talk::SCRIPT, &talk::ADDRESS.to_string()]);
            python.spawn().map_err(step(format!("start {PYTHON} in a machine's place")))
        };
        let process = namespace.within(start).await?;
        Ok(Self { _namespace: namespace, process })
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
