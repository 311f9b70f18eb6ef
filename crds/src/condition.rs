//! Conditions in the form of the Kubernetes API conventions. Times are in New York time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::explain_values;

/// The types of conditions in use.
pub mod condition_type {
    /// `GoldenSnapshot`, `AgentVMPool`: the object can be used.
    pub const READY: &str = "Ready";
    /// `AgentVMPool`: machines are being created or replaced.
    pub const PROGRESSING: &str = "Progressing";
    /// `AgentVMPool`: the pool works less well than it should; the message says why.
    pub const DEGRADED: &str = "Degraded";
    /// kstatus: the operator works on the object.
    pub const RECONCILING: &str = "Reconciling";
    /// kstatus: the work cannot continue until a person changes something.
    pub const STALLED: &str = "Stalled";
    /// `AgentRun`: the spec and all objects that it refers to exist and are valid.
    pub const ACCEPTED: &str = "Accepted";
    /// `AgentRun`: a machine is claimed.
    pub const SCHEDULED: &str = "Scheduled";
    /// `AgentRun`: the result of the run; `Unknown` until its end.
    pub const SUCCEEDED: &str = "Succeeded";
    /// `AgentRun`: the run is over, whatever its result is. Absent until then.
    pub const FINISHED: &str = "Finished";
    /// `AgentRun`: the run is suspended. Absent while the run was never suspended.
    pub const SUSPENDED: &str = "Suspended";
}

/// The value of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// the condition holds.
    True,
    /// the condition does not hold.
    False,
    /// the operator has not decided yet.
    Unknown,
}

/// One aspect of an object's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Aspect that the condition is about: one word. Each type occurs at most once.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 64))]
    pub type_: String,
    /// Value of the condition.
    #[schemars(transform = explain_values)]
    pub status: ConditionStatus,
    /// Generation of the spec that the condition was decided for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Time of the last change of `status`: RFC 3339, New York time with its offset.
    #[schemars(length(max = 64))]
    pub last_transition_time: String,
    /// Reason, one word from a closed set.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// Explanation for people. If a person must act, it says what to do.
    #[schemars(length(max = 4096))]
    pub message: String,
}
