//! What is known of an `AgentVMPool`, and the closed set of its reasons.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Condition;
use crate::reasons::reasons;

/// What is known of a pool. The sums are made of `nodes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentVMPoolStatus {
    /// The generation of the spec that this status was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Machines that are ready and idle.
    #[serde(default)]
    pub warm: i32,
    /// Machines that execute a run.
    #[serde(default)]
    pub claimed: i32,
    /// Machines that are being made.
    #[serde(default)]
    pub creating: i32,
    /// Machines on their way back to the golden state.
    #[serde(default)]
    pub resetting: i32,
    /// Machines that failed their proof: kept paused for a look, never lent again.
    #[serde(default)]
    pub quarantined: i32,
    /// All machines: whatever takes a place under `warm.max`, those that are being removed too.
    #[serde(default)]
    pub total: i32,
    /// What each node has. Each entry is written by that node only.
    #[serde(default)]
    #[schemars(length(max = 5000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub nodes: Vec<PoolNode>,
    /// `Ready`: runs get machines. `Progressing`: machines are being made or replaced. `Degraded`: it works less well
    /// than it should, and why. `Reconciling` and `Stalled`: kstatus. Reasons: see the API reference.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// One node's machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolNode {
    /// Name of the node.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The generation of the spec that the node acts on.
    pub observed_generation: i64,
    /// Kept ready here.
    pub min: i32,
    /// Never more than this here.
    pub max: i32,
    /// Ready and idle.
    pub warm: i32,
    /// Executing a run.
    pub claimed: i32,
    /// Being made.
    pub creating: i32,
    /// On their way back to the golden state.
    #[serde(default)]
    pub resetting: i32,
    /// Failed their proof: kept paused for a look, never lent again.
    #[serde(default)]
    pub quarantined: i32,
    /// Whatever takes a place under `max` here.
    #[serde(default)]
    pub total: i32,
    /// `KVM`, or `TCG`: software emulation, correct and an order of magnitude slower.
    #[schemars(length(max = 64))]
    pub accelerator: String,
    /// How a machine gets to its golden state after a run. `InPlace`: the same process is brought back, proven. `Fresh`: a
    /// new process. `Boot`: a cold boot.
    #[schemars(length(max = 64))]
    pub tier: String,
    /// Why `tier` isn't a better one; absent where nothing is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub tier_message: Option<String>,
    /// Why a tier that this node can do is not used for a while: it failed again and again. The message has the last
    /// failure. Absent while resets go well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub reset_trouble: Option<String>,
    /// The generation of the spec whose network policy is in force here, for machines that run too. Absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_generation: Option<i64>,
    /// How much each machine may take here, with every default filled in: `spec.limits`, and what they leave open from this node's
    /// operator, by the profile of the golden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<PoolLimits>,
    /// Memory that an idle machine doesn't share with others, bytes: the median over the idle machines, in whole MiB. Brought
    /// up to date with other changes, or when it moved by more than a tenth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unshared_memory_bytes: Option<i64>,
    /// Reason of the node's state, out of the pool's closed set.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Why, for people: what it is doing, or what failed and what to do.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// How much each machine of a pool may take on a node. The names and units are those of `spec.limits`; what is absent isn't limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolLimits {
    /// Time of the host's processors, percent of one processor. Absent: as much as the machine has virtual CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_quota_percent: Option<i32>,
    /// Read from and written to disk, together, bytes per second. Absent: unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes_per_second: Option<i64>,
    /// Bytes per second in each direction. Absent: unlimited, or no network (mode Isolated).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_bytes_per_second: Option<i64>,
    /// Packets per second in each direction. Absent: no network (mode Isolated).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_per_second: Option<i32>,
    /// Connections at the same time. Absent: nobody counts them (mode Bridge), or no network (mode Isolated).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<i32>,
    /// Processes and threads of a run at the same time.
    pub processes: i32,
}

reasons!(
    /// Reasons of the conditions of an `AgentVMPool`.
    PoolReason {
        /// As many machines as were asked for are ready or in use.
        Filled,
        /// Machines are being made.
        Filling,
        /// Fewer than asked for, because `max` is reached by machines in use.
        Busy,
        /// The spec can't be carried out; the message has the field's path.
        InvalidSpec,
        /// The golden snapshot doesn't exist.
        SnapshotMissing,
        /// The golden snapshot isn't captured here yet, or failed.
        SnapshotNotReady,
        /// The network mode isn't available; no machine is started.
        NetworkUnavailable,
        /// The node has no room for more machines.
        NoCapacity,
        /// libvirt or QEMU does not answer.
        HypervisorUnavailable,
        /// Machines can't be made, again and again; the message has the last error.
        CreateFailed,
        /// Machines can't be brought back in place, again and again, so runs get fresh processes for a while; the message has
        /// the last failure.
        ResetFailing,
        /// Software emulation: the host can't boot a kernel with KVM.
        SoftwareEmulation,
        /// Nothing is wrong.
        Healthy,
    }
);
