//! `AgentVMPool`: warm machines of one golden snapshot, ready before anyone asks.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::explain_values;
use crate::{AgentVMPoolStatus, LimitsSpec, LocalRef, NetworkSpec};

/// Warm machines of one golden snapshot, kept ready on each node.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "agentvm.dev",
    version = "v1alpha1",
    kind = "AgentVMPool",
    plural = "agentvmpools",
    doc = "A set of warm machines made of one golden snapshot, ready on each node before anyone asks. Runs borrow \
        them.",
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
        description = "Kept ready, per node"
    ),
    printcolumn(
        name = "Max",
        type_ = "integer",
        json_path = ".spec.warm.max",
        description = "Never more than this, per node"
    ),
    printcolumn(
        name = "Golden",
        type_ = "string",
        json_path = ".spec.goldenSnapshotRef.name",
        description = "What the machines are made of"
    ),
    printcolumn(
        name = "Tier",
        type_ = "string",
        json_path = ".status.nodes[0].tier",
        description = "How machines get back to the golden state, on the first node"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why, in one word"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "Why, for people",
        priority = 1
    ),
    printcolumn(
        name = "Degraded",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Degraded")].message"#,
        description = "What works less well than it should",
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
    /// The golden snapshot that the machines are made of, in the pool's namespace. One that doesn't exist or isn't
    /// ready (yet) is waited for. When it is changed, idle machines are replaced at once and others when their run
    /// ends. Required.
    pub golden_snapshot_ref: LocalRef,
    /// How many machines each node keeps. `kubectl scale avmp/NAME --replicas=N` sets `warm.min`, and needs it to be
    /// set. Default: the operator's `pool.min_size` and `pool.max_size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<Warm>,
    /// An idle machine older than this is replaced, seconds. 1 to 31536000. Default: the operator's `pool.ttl_seconds`,
    /// 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub ttl_seconds: Option<i32>,
    /// How often an idle machine is looked at, seconds. 1 to 86400. Default: the operator's
    /// `pool.health_check_interval`, 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub health_check_seconds: Option<i32>,
    /// The longest `timeoutSeconds` that a run may ask for, seconds. A run that asks for more is refused: `Accepted` is
    /// False with `InvalidSpec`. 1 to 604800. Default: the operator's `execution.max_timeout`, 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub max_run_seconds: Option<i32>,
    /// Whether a machine may serve another run once it is back in its golden state. Default: the operator's
    /// `pool.reuse_policy`, VerifiedReset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = explain_values)]
    pub reuse_policy: Option<ReusePolicy>,
    /// How many times in a row one process may be brought back in place; then it is replaced by a fresh one. 0 to 100000.
    /// Default: the operator's `pool.max_reuses`, 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_reuses: Option<i32>,
    /// How long a machine that failed its proof is kept paused for a look before it is destroyed, seconds. It goes earlier
    /// when it takes the place of a machine that is needed. 0 to 604800; 0 destroys it at once. Default: the operator's
    /// `pool.quarantine_seconds`, 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub quarantine_seconds: Option<i32>,
    /// What the machines can reach. Default: the operator's `vm.network_mode`, NatFiltered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkSpec>,
    /// How much each machine may take of its host, besides its size. Default: the operator's `security.resource_limits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
}

impl AgentVMPoolSpec {
    /// A pool of this golden snapshot that leaves everything else open.
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

/// How many machines a node keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.min) || !has(self.max) || self.min <= self.max")
    .message("min must not be greater than max: lower min or raise max").field_path(".min"))]
pub struct Warm {
    /// Kept ready, per node. 0 to 1000, at most `max`. Default: the operator's `pool.min_size`, 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub min: Option<i32>,
    /// Never more than this, per node: ready, in use and in the making together. 1 to 1000. Default: the operator's
    /// `pool.max_size`, 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max: Option<i32>,
}

/// What happens to a machine when its run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReusePolicy {
    /// it is brought back to its golden state in place, proven, and lent again, at most `maxReuses` times and only within
    /// this pool.
    VerifiedReset,
    /// it is destroyed: every run gets a fresh process.
    Never,
}
