//! Conditions, as the Kubernetes API conventions describe them, with times in the zone that agentvm writes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::explain_values;

/// The types of conditions in use.
pub mod condition_type {
    /// `GoldenSnapshot`, `AgentVMPool`: usable.
    pub const READY: &str = "Ready";
    /// `AgentVMPool`: machines are being made or replaced.
    pub const PROGRESSING: &str = "Progressing";
    /// `AgentVMPool`: it works less well than it should, and why.
    pub const DEGRADED: &str = "Degraded";
    /// kstatus: work is under way.
    pub const RECONCILING: &str = "Reconciling";
    /// kstatus: work can't go on before somebody changes something.
    pub const STALLED: &str = "Stalled";
    /// `AgentRun`: the spec and all it refers to are there and valid.
    pub const ACCEPTED: &str = "Accepted";
    /// `AgentRun`: a machine is claimed.
    pub const SCHEDULED: &str = "Scheduled";
    /// `AgentRun`: how it ended; `Unknown` until then.
    pub const SUCCEEDED: &str = "Succeeded";
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// it holds.
    True,
    /// it does not hold.
    False,
    /// not decided yet.
    Unknown,
}

/// One aspect of an object's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect: one word. Each at most once.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 64))]
    pub type_: String,
    /// Whether it holds.
    #[schemars(transform = explain_values)]
    pub status: ConditionStatus,
    /// The generation of the spec that this was decided for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed: RFC 3339, New York time with its offset.
    #[schemars(length(max = 64))]
    pub last_transition_time: String,
    /// Why, in one word out of a closed set.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// Why, for people; names what to do where somebody has to do something.
    #[schemars(length(max = 4096))]
    pub message: String,
}
