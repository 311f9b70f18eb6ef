//! `GoldenSnapshot`: a machine that was booted, provisioned and captured once per node.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::GoldenSnapshotStatus;
use crate::cel::{
    immutable, names_a_program, no_control_characters, one_of_two, relative_path, sha256,
};
use crate::schema::explain_values;

/// The second half of the message that refuses a change of a snapshot's recipe.
const MAKE_ANOTHER: &str = "machines are copies of the capture: create a GoldenSnapshot of another \
    name and point the pool's goldenSnapshotRef to it";

/// A booted and provisioned machine that the machines of pools are copies of. Each node captures it
/// once.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "agentvm.dev",
    version = "v1alpha1",
    kind = "GoldenSnapshot",
    doc = "A booted and provisioned machine, captured once on each node: disk, memory and device \
        state. The machines of pools are copies of it.",
    namespaced,
    status = "GoldenSnapshotStatus",
    shortname = "gsnap",
    category = "agentvm",
    derive = "PartialEq",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Machines can be created from it"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Reason, in one word"
    ),
    printcolumn(
        name = "Source",
        type_ = "string",
        json_path = ".spec.source.builtin",
        description = "Image that agentvm builds"
    ),
    printcolumn(
        name = "Profile",
        type_ = "string",
        json_path = ".spec.resources.profile",
        description = "Size of the machine"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Rootfs",
        type_ = "string",
        json_path = ".spec.source.rootfs.path",
        description = "Image of your own",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "Explanation for people",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = immutable("source", MAKE_ANOTHER))]
#[x_kube(validation = immutable("resources", MAKE_ANOTHER))]
#[x_kube(validation = immutable("setup", MAKE_ANOTHER))]
pub struct GoldenSnapshotSpec {
    /// Root file system that the machine boots from: exactly one of `builtin` and `rootfs`.
    /// Required. Immutable.
    pub source: Source,
    /// Purpose of this snapshot, for people; at most 1024 characters. Can be changed at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Size of the machine. Default: the operator's `vm.default_profile`, Standard unless
    /// configured. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,
    /// Steps that run once in the booted machine, before the capture. Every machine of a pool has
    /// their effects. Default: nothing. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<Setup>,
}

/// The source of the root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = one_of_two("builtin", "rootfs"))]
pub struct Source {
    /// Image that agentvm builds. Exactly one of `builtin` and `rootfs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = explain_values)]
    pub builtin: Option<Builtin>,
    /// Root file system of your own, in the operator's images folder. Exactly one of `builtin` and
    /// `rootfs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<Rootfs>,
}

/// An image that agentvm builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Builtin {
    /// Debian 13 with python3, git, curl, node.
    Debian,
}

/// A root file system of your own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rootfs {
    /// Path of a raw ext4 image, relative to the operator's images folder, e.g.
    /// `ubuntu-24.04.raw`: without `.`, `..` and empty segments, without control characters; 1 to
    /// 1024 characters. Required.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = relative_path(), validation = no_control_characters())]
    pub path: String,
    /// SHA-256 of the file: 64 lower-case hexadecimal characters, in the form that `sha256sum`
    /// prints. A file with another content is refused. Required.
    #[schemars(length(max = 128))]
    #[x_kube(validation = sha256())]
    pub sha256: String,
}

/// The size of a machine, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Profile {
    /// 1 vCPU, 1024 MiB, 10 GiB.
    Light,
    /// 2 vCPUs, 2048 MiB, 20 GiB.
    Standard,
    /// 4 vCPUs, 4096 MiB, 40 GiB.
    Intensive,
    /// the numbers in `custom`.
    Custom,
}

/// The size of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.profile) || self.profile != 'Custom' \
    || has(self.custom)")
    .message("profile Custom needs its numbers: set custom to {vcpus, memoryMiB, diskGiB}")
    .field_path(".custom").reason(Reason::FieldValueRequired))]
#[x_kube(validation = Rule::new("!has(self.custom) \
    || (has(self.profile) && self.profile == 'Custom')")
    .message("custom holds the numbers of profile Custom: set profile to Custom, or remove custom")
    .field_path(".profile"))]
pub struct ResourcesSpec {
    /// Size by name: vCPUs, memory, root disk. Default: the operator's `vm.default_profile`,
    /// Standard unless configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = explain_values)]
    pub profile: Option<Profile>,
    /// Numbers of profile `Custom`; allowed only with that profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomResources>,
}

/// The size of a machine in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomResources {
    /// Virtual CPUs, 1 to 64. Required.
    #[schemars(range(min = 1, max = 64))]
    pub vcpus: i32,
    /// Memory, MiB, 256 to 1048576. Required.
    #[serde(rename = "memoryMiB")]
    #[schemars(range(min = 256, max = 1_048_576))]
    pub memory_mib: i32,
    /// Size of the root disk, GiB, 1 to 16384. The host allocates it while the machine writes.
    /// Required.
    #[serde(rename = "diskGiB")]
    #[schemars(range(min = 1, max = 16_384))]
    pub disk_gib: i32,
    /// Weight of the machine against others when CPUs are short, 2 to 262144. Default: the
    /// operator's `security.resource_limits.cpu_shares`, 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 262_144))]
    pub cpu_shares: Option<i32>,
}

/// The steps that run once before the capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Setup {
    /// Commands, run as root one after the other. The first command that fails ends the capture
    /// with `SetupFailed`. 1 to 64. Required.
    #[schemars(length(min = 1, max = 64))]
    pub steps: Vec<SetupStep>,
    /// Network of the steps; it is closed before the capture. Default: NatFiltered, with the
    /// destinations that pools reach by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<SetupNetwork>,
}

/// The network of the setup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetupNetwork {
    /// Connection of the machine during its setup. `NatFiltered` and `Isolated` only. Default:
    /// NatFiltered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = explain_values)]
    pub mode: Option<SetupNetworkMode>,
}

/// The connection of a machine during its setup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SetupNetworkMode {
    /// DNS, HTTP(S), SSH and git to public addresses.
    #[default]
    NatFiltered,
    /// the machine reaches nothing.
    Isolated,
}

/// One command of the setup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetupStep {
    /// Program and arguments, e.g. `["pip", "install", "pytest"]`. It runs without a shell unless
    /// you name one. 1 to 256 items, each at most 32768 characters and without NUL. Required.
    #[schemars(
        length(min = 1, max = 256),
        inner(length(max = 32_768), regex(pattern = r"^[^\x00]*$"))
    )]
    #[x_kube(validation = names_a_program())]
    pub command: Vec<String>,
    /// Time limit of the command, seconds, 1 to 86400. Default: 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: Option<i32>,
}
