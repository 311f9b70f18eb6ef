//! `AgentVMPool`: warm machines of one golden snapshot, ready before anyone asks.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, LocalRef};

/// Warm machines of one golden snapshot, kept ready on each node.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "agentvm.dev",
    version = "v1alpha1",
    kind = "AgentVMPool",
    plural = "agentvmpools",
    namespaced,
    status = "AgentVMPoolStatus",
    shortname = "avmp",
    category = "agentvm",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct AgentVMPoolSpec {
    /// The golden snapshot that the machines are made of.
    pub golden_snapshot_ref: LocalRef,
    /// How many machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<Warm>,
    /// An idle machine older than this is replaced, seconds. Default: the operator's `pool.ttl_seconds`, 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<i32>,
    /// How often an idle machine is looked at, seconds. Default: the operator's `pool.health_check_interval`, 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_seconds: Option<i32>,
    /// The longest `timeoutSeconds` that a run may ask for. Default: the operator's `execution.max_timeout`, 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_run_seconds: Option<i32>,
    /// What the machines can reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkSpec>,
}

/// How many machines a node keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Warm {
    /// Kept ready, per node. Default: the operator's `pool.min_size`, 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i32>,
    /// Never more than this, per node: ready, in use and in the making together. Default: the operator's `pool.max_size`, 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i32>,
}

/// What the machines of a pool can reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSpec {
    /// How machines are connected. Default: the operator's `vm.network_mode`, NatFiltered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<NetworkMode>,
}

/// How machines are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NetworkMode {
    /// DNS, HTTP(S), SSH and git to public addresses.
    NatFiltered,
    /// No network device at all.
    Isolated,
    /// A bridge of the host.
    Bridge,
}

/// What is known of a pool. The sums are made of `nodes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// All machines.
    #[serde(default)]
    pub total: i32,
    /// What each node has. Each entry is written by that node only.
    #[serde(default)]
    pub nodes: Vec<PoolNode>,
    /// `Ready`, `Progressing`, `Degraded`, `Reconciling`, `Stalled`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// One node's machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolNode {
    /// The node.
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
    /// `KVM`, or `TCG`: software emulation, correct and an order of magnitude slower.
    pub accelerator: String,
    /// How a machine gets back to its golden state: `Fresh` is a new process for every run.
    pub tier: String,
    /// Reason of the node's state, out of the pool's closed set.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// Reasons of the conditions of an `AgentVMPool`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolReason {
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
    /// Software emulation: the host can't boot a kernel with KVM.
    SoftwareEmulation,
    /// Nothing is wrong.
    Healthy,
}

impl PoolReason {
    /// The word as it stands in the condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filled => "Filled",
            Self::Filling => "Filling",
            Self::Busy => "Busy",
            Self::InvalidSpec => "InvalidSpec",
            Self::SnapshotMissing => "SnapshotMissing",
            Self::SnapshotNotReady => "SnapshotNotReady",
            Self::NetworkUnavailable => "NetworkUnavailable",
            Self::NoCapacity => "NoCapacity",
            Self::HypervisorUnavailable => "HypervisorUnavailable",
            Self::CreateFailed => "CreateFailed",
            Self::SoftwareEmulation => "SoftwareEmulation",
            Self::Healthy => "Healthy",
        }
    }
}
