//! The host itself: its facts, its health, and the removal of debris.

use std::fmt::Debug;
use std::path::PathBuf;

use agentvm_core::names::DomainName;
use serde::{Deserialize, Serialize};

use crate::HvError;

/// Questions and work that concern the host and no single machine.
#[async_trait::async_trait]
pub trait HostApi: Send + Sync + Debug + 'static {
    /// Returns versions, accelerator, CPU and memory of the host. They are part of a golden's key.
    /// A boot probe finds the accelerator; its result is cached.
    async fn facts(&self) -> Result<HostFacts, HvError>;

    /// Checks that the host answers now. Reconnects if that is possible.
    async fn health(&self) -> Result<(), HvError>;

    /// Removes all that belongs to no machine and no golden: half captures, overlays, shares and
    /// sockets that a crash left. Returns the names of what it removed. Runs at start.
    async fn sweep(&self) -> Result<Vec<String>, HvError>;

    /// Returns the free space of the file system of goldens and machines, and the space that each
    /// machine takes there.
    async fn disk(&self) -> Result<DiskUse, HvError>;
}

/// The disk of goldens and machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    pub place: PathBuf,
    pub free_bytes: u64,
    /// The bytes on the disk of each machine's own files.
    pub machines: Vec<(DomainName, u64)>,
}

/// Versions and hardware of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostFacts {
    pub qemu_version: String,
    pub libvirt_version: String,
    pub kernel_version: String,
    pub accelerator: Accelerator,
    pub cpu_model: String,
    pub cpus: u32,
    pub memory_mib: u64,
    pub vsock: bool,
}

/// The way in which the host executes machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Accelerator {
    /// Hardware virtualisation that has booted a kernel on this host.
    Kvm,
    /// Software emulation. It is correct, and about ten times slower. `why` has the result of the
    /// probe of KVM.
    Tcg { why: String },
}
