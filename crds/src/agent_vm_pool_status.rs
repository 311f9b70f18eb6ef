//! The status of an `AgentVMPool`, and the closed set of its reasons.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Condition;
use crate::reasons::reasons;

/// The state of a pool. The totals are sums over `nodes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentVMPoolStatus {
    /// Generation of the spec that this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Machines that are ready and idle.
    #[serde(default)]
    pub warm: i32,
    /// Machines that execute a run.
    #[serde(default)]
    pub claimed: i32,
    /// Machines in creation.
    #[serde(default)]
    pub creating: i32,
    /// Machines that are being reset to the golden state.
    #[serde(default)]
    pub resetting: i32,
    /// Machines that failed their proof. They are kept paused so that people can look at them, and
    /// are never lent again.
    #[serde(default)]
    pub quarantined: i32,
    /// All machines that take a place under `warm.max`, with those that are being removed.
    #[serde(default)]
    pub total: i32,
    /// State of the pool on each node. Only the node itself writes its entry.
    #[serde(default)]
    #[schemars(length(max = 5000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub nodes: Vec<PoolNode>,
    /// Use of the pool by the keys of its runs. It decides which waiting run is next. Absent before
    /// the first run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<PoolQueue>,
    /// `Ready`: runs get machines. `Progressing`: machines are being created or replaced.
    /// `Degraded`: the pool works less well than it should; the message says why. `Reconciling` and
    /// `Stalled`: kstatus. Reasons: see the API reference.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// The use of a pool by the keys of its runs (`spec.queue.key`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolQueue {
    /// Time up to which the use was halved, once for each hour: RFC 3339, New York time with its
    /// offset.
    #[schemars(length(max = 64))]
    pub decay_time: String,
    /// The keys that used most, by name. Keys that are not listed used little.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["key".to_owned()]))]
    pub usage: Vec<KeyUsage>,
}

/// The use of a pool by one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyUsage {
    /// `spec.queue.key` of the runs; empty for runs without a key.
    #[schemars(length(max = 63))]
    pub key: String,
    /// Seconds that runs of the key had machines, decayed to `decayTime`. It halves in an hour.
    pub machine_seconds: i64,
}

/// The machines of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolNode {
    /// Name of the node.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Generation of the spec that the node acts on.
    pub observed_generation: i64,
    /// Number of machines that this node keeps ready.
    pub min: i32,
    /// Largest number of machines on this node.
    pub max: i32,
    /// Machines that are ready and idle.
    pub warm: i32,
    /// Machines that execute a run.
    pub claimed: i32,
    /// Machines in creation.
    pub creating: i32,
    /// Machines that are being reset to the golden state.
    #[serde(default)]
    pub resetting: i32,
    /// Machines that failed their proof. They are kept paused so that people can look at them, and
    /// are never lent again.
    #[serde(default)]
    pub quarantined: i32,
    /// All machines that take a place under `max` on this node.
    #[serde(default)]
    pub total: i32,
    /// `KVM`, or `TCG`: software emulation, correct but an order of magnitude slower.
    #[schemars(length(max = 64))]
    pub accelerator: String,
    /// Reset tier of the pool's machines on this node. `InPlace`: the same process is reset, with a
    /// proof. `Fresh`: a new process. `Boot`: a cold boot.
    #[schemars(length(max = 64))]
    pub tier: String,
    /// Reason why `tier` is not a better one. Absent if there is no better one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub tier_message: Option<String>,
    /// Reason why this node does not use a tier for a while although it can: resets of this tier
    /// failed again and again. The text has the last failure. Absent while resets succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub reset_trouble: Option<String>,
    /// Time up to which `status.queue` has the use of this node's machines: RFC 3339, New York time
    /// with its offset. Absent before the first run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub charged_time: Option<String>,
    /// Generation of the spec whose network policy is in force here, for running machines too.
    /// Absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_generation: Option<i64>,
    /// Limits of each machine on this node, with all defaults: `spec.limits`; for the fields that
    /// it leaves open, the values of this node's operator, by the profile of the golden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<PoolLimits>,
    /// Memory that an idle machine does not share with others, bytes: the median over the idle
    /// machines, in whole MiB. Updated together with other changes, or when it moved by more than a
    /// tenth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unshared_memory_bytes: Option<i64>,
    /// Reason of the node's state, from the pool's closed set.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Explanation for people: the current work, or the failure and its remedy.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// The limits of each machine of a pool on a node. Names and units are those of `spec.limits`; an
/// absent field means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolLimits {
    /// CPU time of the host, percent of one processor. Absent: one processor for each virtual CPU
    /// of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_quota_percent: Option<i32>,
    /// Bytes per second, read from and written to disk together. Absent: unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes_per_second: Option<i64>,
    /// Bytes per second in each direction. Absent: unlimited, or no network (mode Isolated).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_bytes_per_second: Option<i64>,
    /// Packets per second in each direction. Absent: no network (mode Isolated).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_per_second: Option<i32>,
    /// Connections at the same time. Absent: not counted (mode Bridge), or no network (mode
    /// Isolated).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<i32>,
    /// Processes and threads of a run at the same time.
    pub processes: i32,
}

reasons!(
    /// Reasons of the conditions of an `AgentVMPool`.
    PoolReason {
        /// The pool has all machines that it was asked for; they are ready or in use.
        Filled,
        /// Machines are being created.
        Filling,
        /// The pool has fewer ready machines than it was asked for, because machines in use reach
        /// `max`.
        Busy,
        /// The spec cannot be carried out; the message has the path of the field.
        InvalidSpec,
        /// The golden snapshot does not exist.
        SnapshotMissing,
        /// The golden snapshot is not captured here yet, or its capture failed.
        SnapshotNotReady,
        /// The network mode is not available; no machine is started.
        NetworkUnavailable,
        /// The node has no room for more machines.
        NoCapacity,
        /// libvirt or QEMU does not answer.
        HypervisorUnavailable,
        /// The creation of machines fails again and again; the message has the last error.
        CreateFailed,
        /// Resets in place fail again and again, so runs get fresh processes for a while; the
        /// message has the last failure.
        ResetFailing,
        /// Machines run by software emulation, because the host cannot boot a kernel with KVM.
        SoftwareEmulation,
        /// The pool has no problem.
        Healthy,
    }
);
