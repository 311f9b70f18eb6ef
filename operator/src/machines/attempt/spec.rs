//! The description of one attempt, for the task of its machine. It holds secrets: it is never
//! logged, and they are dropped with it.

use std::{path::PathBuf, time::Duration};

use agentvm_core::run::StopCause;
use agentvm_guest_agent::protocol::{EnvVar, RunAs, Secret};
use agentvm_hypervisor::{CollectSpec, InputFile};
use agentvm_types::RunUid;
use jiff::Timestamp;

/// A file for the guest's tmpfs.
#[derive(Clone)]
pub struct SecretFile {
    pub path: String,
    pub mode: u32,
    pub content: Vec<u8>,
}

/// One attempt.
#[derive(Clone)]
pub struct AttemptSpec {
    pub run_uid: RunUid,
    /// For logs: namespace/name.
    pub run: String,
    pub attempt: i32,
    pub argv: Vec<String>,
    pub env: Vec<EnvVar>,
    pub run_as: RunAs,
    pub stdin: Option<Vec<u8>>,
    pub timeout: Duration,
    /// A reference of the run is gone: the attempt can be followed, not started.
    pub missing: Option<String>,
    /// The attempt is to be stopped, and is not started first.
    pub stop: Option<StopCause>,
    pub input: Vec<InputFile>,
    pub secrets: Vec<SecretFile>,
    pub max_stream_bytes: u64,
    pub collect: CollectSpec,
    /// The folder of its streams and its output.
    pub folder: PathBuf,
    pub created: Timestamp,
    pub claimed: Timestamp,
}

impl std::fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretFile({:?})", self.path)
    }
}

impl std::fmt::Debug for AttemptSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AttemptSpec({}, attempt {})", self.run, self.attempt)
    }
}

impl AttemptSpec {
    /// An environment variable. Its value is not shown anywhere.
    pub fn env_var(name: &str, value: &[u8]) -> EnvVar {
        EnvVar { name: name.to_owned(), value: Secret::new(value) }
    }
}
