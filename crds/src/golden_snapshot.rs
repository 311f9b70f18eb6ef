//! `GoldenSnapshot`: a booted, provisioned machine, captured once per node.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Condition;

/// A booted and provisioned machine that pools are made of. Captured once on each node.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "agentvm.dev",
    version = "v1alpha1",
    kind = "GoldenSnapshot",
    namespaced,
    status = "GoldenSnapshotStatus",
    shortname = "gsnap",
    category = "agentvm",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct GoldenSnapshotSpec {
    /// What the machine boots from. Exactly one of `builtin` and `rootfs`.
    pub source: Source,
    /// What this snapshot is for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Size of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,
    /// What is done once in the booted machine, before it is captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<Setup>,
}

/// Where the root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// An image that agentvm builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<Builtin>,
    /// A root file system of your own, in the operator's images folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<Rootfs>,
}

/// An image that agentvm builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Builtin {
    /// Debian 12 with python3, git, curl, nodejs.
    Debian,
}

/// A root file system of your own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rootfs {
    /// Path of a raw ext4 image, relative to the operator's images folder.
    pub path: String,
    /// SHA-256 of the file, 64 hexadecimal characters.
    pub sha256: String,
}

/// A machine's size, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Profile {
    /// 1 vCPU, 1024 MiB, 10 GiB.
    Light,
    /// 2 vCPUs, 2048 MiB, 20 GiB.
    Standard,
    /// 4 vCPUs, 4096 MiB, 40 GiB.
    Intensive,
    /// What `custom` says.
    Custom,
}

/// Size of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourcesSpec {
    /// A size by name. Default: the operator's `vm.default_profile`, Standard unless configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// The numbers of profile `Custom`, and only of that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomResources>,
}

/// Size of a machine in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomResources {
    /// Virtual CPUs.
    pub vcpus: i32,
    /// Memory, MiB.
    #[serde(rename = "memoryMiB")]
    pub memory_mib: i32,
    /// Size of the root disk, GiB; allocated as it is written.
    #[serde(rename = "diskGiB")]
    pub disk_gib: i32,
    /// Weight of the machine against others when CPUs are short. Default: 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<i32>,
}

/// What is done once before capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Setup {
    /// Commands, run as root one after the other; the first that fails ends the capture.
    pub steps: Vec<SetupStep>,
}

/// One command of the setup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetupStep {
    /// Program and arguments; no shell unless you name one.
    pub command: Vec<String>,
    /// How long it may take, seconds. Default: 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
}

/// What is known of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GoldenSnapshotStatus {
    /// The generation of the spec that this status was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Digest of the recipe: source, resources and setup. `sha256:…`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What each node has of it. Each entry is written by that node only.
    #[serde(default)]
    pub nodes: Vec<GoldenNode>,
    /// `Ready`, `Reconciling`, `Stalled`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GoldenNodeState {
    /// Not begun.
    Pending,
    /// The template boots or runs its setup.
    Preparing,
    /// Memory, device state and disks are being written.
    Capturing,
    /// Machines can be made of it.
    Ready,
    /// It could not be made; `message` says why.
    Failed,
}

/// One node's golden.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GoldenNode {
    /// The node.
    pub name: String,
    /// Device layout that it was captured with: `Isolated` has no network device.
    pub layout: String,
    /// How far it is.
    pub state: GoldenNodeState,
    /// Digest of the content: memory, device state, disks. `sha256:…`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Name of its folder: recipe, layout, QEMU, libvirt and kernel version, accelerator, CPU model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Memory that the golden state takes on the node, bytes; shared by all of its machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<i64>,
    /// Seconds from the start of the template to the end of capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_seconds: Option<f64>,
    /// When it was captured: RFC 3339, New York time with its offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_time: Option<String>,
    /// For people: what it is doing, or what failed and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Reasons of `Ready` on a `GoldenSnapshot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoldenReason {
    /// Captured on every node that answered.
    Captured,
    /// Waiting for its turn on the node.
    Pending,
    /// The template boots, runs its setup or is being written.
    Capturing,
    /// The spec can't be carried out; the message has the field's path.
    InvalidSpec,
    /// The root file system isn't there, is truncated, or has another digest.
    SourceMissing,
    /// The agent in the template did not answer in time.
    BootTimeout,
    /// A step of `setup` failed or took too long.
    SetupFailed,
    /// Memory, state or disks could not be written.
    CaptureFailed,
    /// The node has no room for it.
    NoCapacity,
    /// libvirt or QEMU does not answer.
    HypervisorUnavailable,
}

impl GoldenReason {
    /// The word as it stands in the condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Captured => "Captured",
            Self::Pending => "Pending",
            Self::Capturing => "Capturing",
            Self::InvalidSpec => "InvalidSpec",
            Self::SourceMissing => "SourceMissing",
            Self::BootTimeout => "BootTimeout",
            Self::SetupFailed => "SetupFailed",
            Self::CaptureFailed => "CaptureFailed",
            Self::NoCapacity => "NoCapacity",
            Self::HypervisorUnavailable => "HypervisorUnavailable",
        }
    }
}
