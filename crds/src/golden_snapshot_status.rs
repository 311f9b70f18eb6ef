//! What is known of a `GoldenSnapshot`, and the closed set of its reasons.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Condition;
use crate::reasons::reasons;
use crate::schema::explain_values;

/// What is known of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GoldenSnapshotStatus {
    /// The generation of the spec that this status was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Digest of the recipe: source, resources and setup. `sha256:…`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub digest: Option<String>,
    /// What each node has of it. Each entry is written by that node only.
    #[serde(default)]
    #[schemars(length(max = 5000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned(), "layout".to_owned()]))]
    pub nodes: Vec<GoldenNode>,
    /// `Ready`: machines can be made of it on every node that answered. `Reconciling`: work is under way. `Stalled`:
    /// work can't go on before somebody changes something. Reasons: see the API reference.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GoldenNodeState {
    /// not begun.
    Pending,
    /// the template boots or runs its setup.
    Preparing,
    /// memory, device state and disks are being written.
    Capturing,
    /// machines can be made of it.
    Ready,
    /// it could not be made; `message` says why.
    Failed,
}

/// One node's golden.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GoldenNode {
    /// Name of the node.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Device layout that it was captured with: `Isolated` has no network device.
    #[schemars(length(max = 64))]
    pub layout: String,
    /// How far it is.
    #[schemars(transform = explain_values)]
    pub state: GoldenNodeState,
    /// Digest of the content: memory, device state, disks. `sha256:…`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub digest: Option<String>,
    /// Name of its folder: recipe, layout, QEMU, libvirt and kernel version, accelerator, CPU model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub key: Option<String>,
    /// Memory that the golden state takes on the node, bytes; shared by all of its machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<i64>,
    /// Seconds from the start of the template to the end of capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_seconds: Option<f64>,
    /// When it was captured: RFC 3339, New York time with its offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub captured_time: Option<String>,
    /// For people: what it is doing, or what failed and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
}

reasons!(
    /// Reasons of the conditions of a `GoldenSnapshot`.
    GoldenReason {
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
        /// There is no network for its setup, or none for machines at all.
        NetworkUnavailable,
        /// The node has no room for it.
        NoCapacity,
        /// libvirt or QEMU does not answer.
        HypervisorUnavailable,
    }
);
