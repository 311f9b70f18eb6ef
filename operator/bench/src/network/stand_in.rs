//! A process in a namespace in place of a machine. It is as fast as the host, so the cost of the
//! rules becomes visible.

use std::process::{Child, Command};

use super::namespace::Namespace;
use super::talk;
use crate::error::{BenchError, step};

/// Runs `talk.py` here, like a machine's own Python does there.
pub const PYTHON: &str = "python3";
/// The process's end of the wire.
pub const DEVICE: &str = "eth0";

/// Ends when it is dropped.
#[derive(Debug)]
pub struct StandIn {
    _namespace: Namespace,
    process: Child,
}

impl StandIn {
    /// `commands` configure [`DEVICE`], which is in the namespace already, like a machine's
    /// network.
    pub async fn start(namespace: Namespace, commands: String) -> Result<Self, BenchError> {
        namespace.ip(commands).await?;
        let start = || {
            let mut python = Command::new(PYTHON);
            python.args(["-c", talk::SCRIPT, &talk::ADDRESS.to_string()]);
            python.spawn().map_err(step(format!("start {PYTHON} in place of a machine")))
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
