//! What is known of an `AgentRun`, and the closed sets of its reasons.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reasons::reasons;
use crate::{Condition, RunNetwork};

/// What is known of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentRunStatus {
    /// The generation of the spec that this status was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: the spec and all it refers to are there and valid. `Scheduled`: a machine is claimed. `Succeeded`:
    /// how it ended; `Unknown` until then. Wait with `kubectl wait --for=condition=Succeeded arun/NAME`. Reasons: see
    /// the API reference.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The node that executes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node_name: Option<String>,
    /// The machine that executes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub vm_name: Option<String>,
    /// Exit code of the program; absent when a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the program, by number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The end of standard output, as text; bytes that aren't UTF-8 are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    pub stdout: Option<String>,
    /// The beginning of standard output isn't in `stdout`, or was never kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_truncated: Option<bool>,
    /// The end of standard error, as text; bytes that aren't UTF-8 are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    pub stderr: Option<String>,
    /// The beginning of standard error isn't in `stderr`, or was never kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_truncated: Option<bool>,
    /// How long the program ran, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// What it left in `/workspace/output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputStatus>,
    /// The reset that made the machine of the last attempt what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<ResetStatus>,
    /// What it did with its network. Absent where its machine had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<RunNetwork>,
    /// Where the time went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// Every attempt, oldest first.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub attempts: Vec<Attempt>,
}

/// What a run left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputStatus {
    /// The files, by path; the first ones where there are too many to list.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub files: Vec<OutputFile>,
    /// Files that were kept, listed here or not.
    #[serde(default)]
    pub total_files: i32,
    /// Bytes of all files that were kept.
    #[serde(default)]
    pub total_bytes: i64,
    /// Where they are: a folder on the node.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub location: String,
    /// What was not taken, and why (links, devices, names that aren't text, …).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(max = 8192)))]
    pub skipped: Vec<String>,
}

/// A file that a run left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputFile {
    /// Path below `/workspace/output`.
    #[schemars(length(min = 1, max = 4096))]
    pub path: String,
    /// Size, bytes.
    pub size_bytes: i64,
    /// SHA-256 of the content, 64 hexadecimal characters.
    #[schemars(length(max = 64))]
    pub sha256: String,
}

/// How a machine got to its golden state, and what proves it. All of it was looked at before the machine was lent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResetStatus {
    /// `InPlace`: the same process was brought back. `Fresh`: a new process. `Boot`: a cold boot.
    #[schemars(length(max = 64))]
    pub tier: String,
    /// How long it took until the proof was complete, milliseconds.
    pub millis: i64,
    /// What was looked at, and what it said.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub checks: Vec<ResetCheck>,
}

/// One part of a proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResetCheck {
    /// `memory`, `disk`, `monitor`, `process`: from outside, while the machine stood still. `guest`: its own answer.
    #[schemars(length(max = 64))]
    pub name: String,
    /// `Passed`, or what was seen instead.
    #[schemars(length(max = 1024))]
    pub result: String,
}

/// Where the time of the last attempt went, milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timings {
    /// From creation to the claim.
    pub queue_millis: i64,
    /// From the claim to a machine that runs.
    pub acquire_millis: i64,
    /// From there to the acknowledged start of the program.
    pub start_millis: i64,
    /// From there to the end of the program.
    pub execute_millis: i64,
    /// From there until what it left is read and stored.
    pub collect_millis: i64,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Number of the attempt; 1 for the first.
    pub number: i32,
    /// Name of the node that executed it.
    #[schemars(length(max = 253))]
    pub node_name: String,
    /// Name of the machine that executed it.
    #[schemars(length(max = 253))]
    pub vm_name: String,
    /// Which incarnation of the machine: the program is executed at most once in it.
    #[schemars(length(max = 64))]
    pub nonce: String,
    /// When the machine was claimed: RFC 3339, New York time with its offset.
    #[schemars(length(max = 64))]
    pub start_time: String,
    /// When it ended: RFC 3339, New York time with its offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub end_time: Option<String>,
    /// How it ended, out of the reasons of `Succeeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Exit code, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

reasons!(
    /// Reasons of `Accepted`.
    AcceptedReason {
        /// Everything that the run refers to is there.
        Valid,
        /// The spec can't be carried out; the message has the field's path. Final.
        InvalidSpec,
        /// The pool doesn't exist (yet). Waits, up to `queueTimeoutSeconds`.
        PoolMissing,
        /// A Secret or its key doesn't exist (yet). Waits.
        SecretMissing,
        /// A ConfigMap or its key doesn't exist (yet). Waits.
        ConfigMapMissing,
    }
);

reasons!(
    /// Reasons of `Scheduled`.
    ScheduledReason {
        /// A machine is claimed for it.
        Claimed,
        /// Every machine is in use or still in the making.
        WaitingForMachine,
        /// The pool can't make machines; the message has the pool's own reason.
        PoolDegraded,
        /// No operator that could carry it out answers.
        NodeUnavailable,
    }
);

reasons!(
    /// Reasons of `Succeeded`.
    SucceededReason {
        /// Not over: it waits or runs.
        Running,
        /// The program exited with 0.
        Completed,
        /// The program exited with another code, or a signal ended it.
        NonZeroExit,
        /// It ran longer than `timeoutSeconds` and was killed.
        DeadlineExceeded,
        /// No machine was free within `queueTimeoutSeconds`, or what it refers to didn't appear.
        QueueTimeout,
        /// `desiredState: Cancelled`.
        Cancelled,
        /// The machine died, or doesn't know the attempt.
        GuestLost,
        /// The node that executed it is gone.
        NodeLost,
        /// The operator was told to stop and the run wasn't done in time.
        Evicted,
        /// The golden snapshot of its pool is gone.
        SnapshotMissing,
        /// It left more than `output.maxBytes`.
        OutputTooLarge,
        /// The spec can't be carried out; the message has the field's path.
        InvalidSpec,
    }
);
