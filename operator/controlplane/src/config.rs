//! The configuration of a control plane.

use std::path::PathBuf;
use std::time::Duration;

use crate::Binaries;

/// The port that Kubernetes' own tools use for an API server.
const USUAL_PORT: u16 = 6443;

/// The configuration of a control plane. The caller ensures that only one process uses a data
/// folder at a time.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder for all data: etcd's data, certificates, logs and the kubeconfig. It is made if
    /// it is missing.
    pub data_dir: PathBuf,
    /// The programs to run.
    pub binaries: Binaries,
    /// The API server's port if it is free. Otherwise another port is chosen. `None`: any port.
    pub preferred_port: Option<u16>,
    /// Whether to run kube-controller-manager. Without it, the content of deleted namespaces and
    /// owners stays.
    pub controller_manager: bool,
    /// Whether data must survive a power cut.
    pub durability: Durability,
    /// The time limit for a start.
    pub start_timeout: Duration,
    /// The size that the file of the store may reach. Beyond it, the store refuses writes.
    pub store_quota_bytes: u64,
    /// The pause between two looks at the store's size.
    pub store_pause: Duration,
}

/// Whether data must survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Every write is synced to the disk before it is acknowledged.
    Synced,
    /// Nothing is synced: faster, and for tests only.
    UnsafeNoFsync,
}

impl Config {
    /// The usual configuration, for real use.
    pub fn new(data_dir: impl Into<PathBuf>, binaries: Binaries) -> Self {
        Self {
            data_dir: data_dir.into(),
            binaries,
            preferred_port: Some(USUAL_PORT),
            controller_manager: true,
            durability: Durability::Synced,
            start_timeout: Duration::from_secs(90),
            store_quota_bytes: 2 << 30,
            store_pause: Duration::from_secs(10),
        }
    }
}
