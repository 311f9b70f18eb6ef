//! Goldens: capturing one from a template, listing, testing and removing them.

use std::fmt::Debug;
use std::path::PathBuf;

use agentvm_core::golden::DeviceLayout;
use agentvm_core::names::{DomainName, GoldenKey};
use agentvm_types::OwnerUid;
use serde::{Deserialize, Serialize};

use super::machine_record::MachineRecord;
use crate::{HvError, MachineLimits, Resources, TierReport};

/// The goldens of a host.
#[async_trait::async_trait]
pub trait GoldenApi: Send + Sync + Debug + 'static {
    /// Boots the template of a golden. Returns when the domain runs; its agent may still boot.
    async fn boot_template(&self, spec: &TemplateSpec) -> Result<(), HvError>;

    /// Captures a quiesced template as the golden of its key. Either all files of the golden
    /// appear or none. Afterwards the template is gone. `guest` is the agent's description of
    /// itself; the golden keeps it unchanged.
    async fn capture(&self, template: &DomainName, guest: &str) -> Result<Golden, HvError>;

    /// Returns the best reset tier that passed its self-test on this host, with sabotage. The test
    /// runs once for each golden in the life of a process. It takes about as long as the creation
    /// of a machine.
    async fn tiers(&self, golden: &GoldenKey) -> Result<TierReport, HvError>;

    /// Lists the goldens that are complete on this host.
    async fn goldens(&self) -> Result<Vec<Golden>, HvError>;

    /// Removes the files of a golden. The caller knows that no machine uses them. A golden that is
    /// absent is no error.
    async fn remove_golden(&self, key: &GoldenKey) -> Result<(), HvError>;
}

/// The template to boot.
#[derive(Clone, Debug)]
pub struct TemplateSpec {
    pub record: MachineRecord,
    pub resources: Resources,
    /// The folder with `image.json`, root filesystem, kernel and initrd.
    pub image: PathBuf,
    /// A root filesystem that replaces the image's own. Kernel and initrd stay the image's.
    pub rootfs: Option<PathBuf>,
    pub limits: MachineLimits,
}

/// A golden that is complete on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Golden {
    pub key: GoldenKey,
    /// `sha256:…` of memory, device state and disks.
    pub digest: String,
    pub resources: Resources,
    /// The devices that its machines have.
    #[serde(default)]
    pub layout: DeviceLayout,
    /// Allocated bytes of the memory file.
    pub memory_bytes: u64,
    /// Unix seconds.
    pub captured: i64,
    /// Milliseconds from the start of the template to the end of the capture.
    pub boot_millis: u64,
    /// Namespace, name and UID of the object that asked for the golden.
    pub namespace: String,
    pub owner: String,
    pub owner_uid: OwnerUid,
    /// The agent's description of itself at the capture. This crate does not read it.
    #[serde(default)]
    pub guest: String,
}
