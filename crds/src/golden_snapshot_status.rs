//! The status of a `GoldenSnapshot`, and the closed set of its reasons.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Condition;
use crate::reasons::reasons;
use crate::schema::explain_values;

/// The state of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GoldenSnapshotStatus {
    /// Generation of the spec that this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Digest of the recipe: source, resources and setup. `sha256:…`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub digest: Option<String>,
    /// State of the snapshot on each node. Only the node itself writes its entry.
    #[serde(default)]
    #[schemars(length(max = 5000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned(), "layout".to_owned()]))]
    pub nodes: Vec<GoldenNode>,
    /// `Ready`: every node that answered can create machines from the snapshot. `Reconciling`: the
    /// operator works on it. `Stalled`: the work cannot continue until a person changes something.
    /// Reasons: see the API reference.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// The progress of a capture on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GoldenNodeState {
    /// the capture has not begun.
    Pending,
    /// the template boots or runs its setup.
    Preparing,
    /// memory, device state and disks are being written.
    Capturing,
    /// machines can be created from the snapshot.
    Ready,
    /// the capture failed; `message` says why.
    Failed,
}

/// The golden of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GoldenNode {
    /// Name of the node.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Device layout of the capture: `Isolated` has no network device.
    #[schemars(length(max = 64))]
    pub layout: String,
    /// Progress of the capture on the node.
    #[schemars(transform = explain_values)]
    pub state: GoldenNodeState,
    /// Digest of the content: memory, device state, disks. `sha256:…`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub digest: Option<String>,
    /// Golden key, the name of the golden's folder. It covers recipe, layout, QEMU, libvirt and
    /// kernel version, accelerator, CPU model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub key: Option<String>,
    /// Memory that the golden state takes on the node, bytes. All of its machines share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<i64>,
    /// Time from the start of the template to the end of the capture, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_seconds: Option<f64>,
    /// Time of the capture: RFC 3339, New York time with its offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub captured_time: Option<String>,
    /// Explanation for people: the current work, or the failure and its remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
}

reasons!(
    /// Reasons of the conditions of a `GoldenSnapshot`.
    GoldenReason {
        /// The snapshot is captured on every node that answered.
        Captured,
        /// The capture waits for its turn on the node.
        Pending,
        /// The template boots, runs its setup, or is being written.
        Capturing,
        /// The spec cannot be carried out; the message has the path of the field.
        InvalidSpec,
        /// The root file system does not exist, is truncated, or has another digest.
        SourceMissing,
        /// The agent in the template did not answer in time.
        BootTimeout,
        /// A step of `setup` failed or took too long.
        SetupFailed,
        /// Memory, device state or disks could not be written.
        CaptureFailed,
        /// The setup has no network, or machines have none at all.
        NetworkUnavailable,
        /// The node has no room for the snapshot.
        NoCapacity,
        /// libvirt or QEMU does not answer.
        HypervisorUnavailable,
    }
);
