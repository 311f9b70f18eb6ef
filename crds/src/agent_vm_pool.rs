//! `AgentVMPool`: machines of one golden snapshot that are ready before a run asks for one.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::explain_values;
use crate::{AgentVMPoolStatus, LimitsSpec, LocalRef, NetworkSpec};

/// Warm machines of one golden snapshot that each node keeps ready.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "agentvm.dev",
    version = "v1alpha1",
    kind = "AgentVMPool",
    plural = "agentvmpools",
    doc = "A set of warm machines of one golden snapshot. They are ready on each node before a run \
        asks for one. Runs borrow them.",
    namespaced,
    status = "AgentVMPoolStatus",
    shortname = "avmp",
    category = "agentvm",
    derive = "PartialEq",
    selectable = ".spec.goldenSnapshotRef.name",
    scale(spec_replicas_path = ".spec.warm.min", status_replicas_path = ".status.warm"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Runs get machines"
    ),
    printcolumn(
        name = "Warm",
        type_ = "integer",
        json_path = ".status.warm",
        description = "Machines that are ready and idle"
    ),
    printcolumn(
        name = "Claimed",
        type_ = "integer",
        json_path = ".status.claimed",
        description = "Machines that execute a run"
    ),
    printcolumn(
        name = "Total",
        type_ = "integer",
        json_path = ".status.total",
        description = "All machines"
    ),
    printcolumn(
        name = "Min",
        type_ = "integer",
        json_path = ".spec.warm.min",
        description = "Machines that are kept ready, per node"
    ),
    printcolumn(
        name = "Max",
        type_ = "integer",
        json_path = ".spec.warm.max",
        description = "Largest number of machines, per node"
    ),
    printcolumn(
        name = "Golden",
        type_ = "string",
        json_path = ".spec.goldenSnapshotRef.name",
        description = "Golden snapshot of the machines"
    ),
    printcolumn(
        name = "Tier",
        type_ = "string",
        json_path = ".status.nodes[0].tier",
        description = "Reset tier of the machines on the first node"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Reason, in one word"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "Explanation for people",
        priority = 1
    ),
    printcolumn(
        name = "Degraded",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Degraded")].message"#,
        description = "Explanation of the condition Degraded",
        priority = 1
    ),
    printcolumn(
        name = "Quarantined",
        type_ = "integer",
        json_path = ".status.quarantined",
        description = "Machines that failed their proof",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AgentVMPoolSpec {
    /// Golden snapshot of the machines, in the pool's namespace. If it does not exist or is not
    /// ready (yet), the pool waits for it. When you change it, idle machines are replaced at once,
    /// and busy ones when their run ends. Required.
    pub golden_snapshot_ref: LocalRef,
    /// Number of machines that each node keeps. `kubectl scale avmp/NAME --replicas=N` sets
    /// `warm.min`; the pool must already have that field. Default: the operator's `pool.min_size`
    /// and `pool.max_size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<Warm>,
    /// Age at which an idle machine is replaced, seconds. 1 to 31536000. Default: the operator's
    /// `pool.ttl_seconds`, 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub ttl_seconds: Option<i32>,
    /// Time between two checks of an idle machine, seconds. 1 to 86400. Default: the operator's
    /// `pool.health_check_interval`, 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub health_check_seconds: Option<i32>,
    /// Largest `timeoutSeconds` that a run may ask for, seconds. A run that asks for more is
    /// refused: `Accepted` is False with `InvalidSpec`. 1 to 604800. Default: the operator's
    /// `execution.max_timeout`, 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub max_run_seconds: Option<i32>,
    /// Permission for a machine to serve another run after a reset to its golden state. Default:
    /// the operator's `pool.reuse_policy`, VerifiedReset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = explain_values)]
    pub reuse_policy: Option<ReusePolicy>,
    /// Number of resets in place of one process in a row; after that a fresh process replaces it. 0
    /// to 100000. Default: the operator's `pool.max_reuses`, 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_reuses: Option<i32>,
    /// Time from a failed proof to the destruction of the machine, seconds. The machine is kept
    /// paused, so that people can look at it. It goes earlier if another machine needs its place. 0
    /// to 604800; 0 destroys it at once. Default: the operator's `pool.quarantine_seconds`, 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub quarantine_seconds: Option<i32>,
    /// Network of the machines: mode, destinations that they can reach, DNS server. Default: the
    /// operator's `vm.network_mode`, NatFiltered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkSpec>,
    /// Limits of each machine's use of its host, besides its size. Default: the operator's
    /// `security.resource_limits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
}

impl AgentVMPoolSpec {
    /// A pool of this golden snapshot. All other fields are unset.
    pub fn of(golden: impl Into<String>) -> Self {
        Self {
            golden_snapshot_ref: LocalRef { name: golden.into() },
            warm: None,
            ttl_seconds: None,
            health_check_seconds: None,
            max_run_seconds: None,
            reuse_policy: None,
            max_reuses: None,
            quarantine_seconds: None,
            network: None,
            limits: None,
        }
    }
}

/// The number of machines that a node keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.min) || !has(self.max) || self.min <= self.max")
    .message("min must not be greater than max: lower min or raise max").field_path(".min"))]
pub struct Warm {
    /// Number of machines that are kept ready, per node. 0 to 1000, at most `max`. Default: the
    /// operator's `pool.min_size`, 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub min: Option<i32>,
    /// Largest number of machines, per node: ready ones, busy ones, and those in creation. 1 to
    /// 1000. Default: the operator's `pool.max_size`, 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max: Option<i32>,
}

/// The fate of a machine after its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReusePolicy {
    /// the machine is reset to its golden state in place, proven, and lent again, at most
    /// `maxReuses` times and only within this pool.
    VerifiedReset,
    /// the machine is destroyed; every run gets a fresh process.
    Never,
}
