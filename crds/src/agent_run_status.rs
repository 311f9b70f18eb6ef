//! The status of an `AgentRun`, and the closed sets of its reasons.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reasons::reasons;
use crate::{Condition, RunNetwork};

/// The state of a run, and its result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentRunStatus {
    /// Generation of the spec that this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: the spec and all objects that it refers to exist and are valid. `Scheduled`: a
    /// machine is claimed. `Succeeded`: the result of the run; `Unknown` until its end. `Finished`:
    /// the run is over, whatever its result is; wait with
    /// `kubectl wait --for=condition=Finished arun/NAME`. `Suspended`: `spec.suspend` is true.
    /// Reasons: see the API reference.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// Time when the run was over, whatever its result is: RFC 3339, New York time with its offset.
    /// Absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub completion_time: Option<String>,
    /// Node that executes the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node_name: Option<String>,
    /// Machine that executes the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub vm_name: Option<String>,
    /// Exit code of the program; absent when a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Number of the signal that ended the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// End of standard output, as text. Bytes that are not UTF-8 are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    pub stdout: Option<String>,
    /// True if a part of standard output is not in `stdout`, or was never kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_truncated: Option<bool>,
    /// End of standard error, as text. Bytes that are not UTF-8 are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    pub stderr: Option<String>,
    /// True if a part of standard error is not in `stderr`, or was never kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_truncated: Option<bool>,
    /// Time that the program ran, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// Files that the run left in `/workspace/output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputStatus>,
    /// Reset that brought the machine of the last attempt to its golden state before the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<ResetStatus>,
    /// Network use of the run. Absent if its machine had no network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<RunNetwork>,
    /// Times of the phases of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// Number of machines in a row that were claimed for the run and did not start its program.
    /// Such a claim is no attempt, but after 10 of them the run ends. Absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unstarted_claims: Option<i32>,
    /// All attempts, oldest first.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub attempts: Vec<Attempt>,
}

/// The files that a run left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputStatus {
    /// The files, by path. If there are too many to list, only the first ones.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub files: Vec<OutputFile>,
    /// Number of all files that were kept, with those that are not listed.
    #[serde(default)]
    pub total_files: i32,
    /// Size of all files that were kept, bytes.
    #[serde(default)]
    pub total_bytes: i64,
    /// Folder on the node that has the files.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub location: String,
    /// Paths that were not taken, each with the reason (a link, a device, a name that is not text,
    /// …).
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

/// The reset of a machine, and its evidence. All checks were made before the machine was lent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResetStatus {
    /// `InPlace`: the same process was reset. `Fresh`: a new process. `Boot`: a cold boot.
    #[schemars(length(max = 64))]
    pub tier: String,
    /// Time from the start of the reset until the proof was complete, milliseconds.
    pub millis: i64,
    /// The checks and their results.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub checks: Vec<ResetCheck>,
}

/// One check of the proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResetCheck {
    /// `memory`, `disk`, `monitor`, `process`: the host's checks from outside, while the machine
    /// was paused. `guest`: the agent's own answer.
    #[schemars(length(max = 64))]
    pub name: String,
    /// `Passed`, or the difference that the check found.
    #[schemars(length(max = 1024))]
    pub result: String,
}

/// The times of the phases of the last attempt, milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timings {
    /// From the creation of the run to the claim.
    pub queue_millis: i64,
    /// From the claim until the machine runs.
    pub acquire_millis: i64,
    /// From then until the agent acknowledged the start of the program.
    pub start_millis: i64,
    /// From then to the end of the program.
    pub execute_millis: i64,
    /// From then until the output is read and stored.
    pub collect_millis: i64,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Number of the attempt; 1 for the first.
    pub number: i32,
    /// Name of the node that executed it. A label: `nodeId` identifies the node.
    #[schemars(length(max = 253))]
    pub node_name: String,
    /// Id of the node that executed it, from the state folder of its operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub node_id: Option<String>,
    /// Name of the machine that executed it.
    #[schemars(length(max = 253))]
    pub vm_name: String,
    /// Incarnation of the machine. The program is executed at most once in an incarnation.
    #[schemars(length(max = 64))]
    pub nonce: String,
    /// Time of the claim: RFC 3339, New York time with its offset.
    #[schemars(length(max = 64))]
    pub start_time: String,
    /// Time of the attempt's end: RFC 3339, New York time with its offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub end_time: Option<String>,
    /// Reason of the attempt's end, one of the reasons of `Succeeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Exit code of the program, if it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

reasons!(
    /// Reasons of `Accepted`.
    AcceptedReason {
        /// All objects that the run refers to exist.
        Valid,
        /// The spec cannot be carried out; the message has the path of the field. This is final.
        InvalidSpec,
        /// The pool does not exist (yet). The run waits for it, up to `queueTimeoutSeconds`.
        PoolMissing,
        /// A Secret or its key does not exist (yet). The run waits for it, up to
        /// `queueTimeoutSeconds`.
        SecretMissing,
        /// A ConfigMap or its key does not exist (yet). The run waits for it, up to
        /// `queueTimeoutSeconds`.
        ConfigMapMissing,
    }
);

reasons!(
    /// Reasons of `Scheduled`.
    ScheduledReason {
        /// A machine is claimed for the run.
        Claimed,
        /// All machines are in use or not ready yet.
        WaitingForMachine,
        /// The pool cannot create machines; the message has the pool's own reason.
        PoolDegraded,
        /// The node takes no run now: its operator stops or does not answer, or its disk is short.
        NodeUnavailable,
        /// `spec.suspend` is true. The time for waiting does not pass.
        Suspended,
    }
);

reasons!(
    /// Reasons of `Succeeded`.
    SucceededReason {
        /// The run has not ended: it waits or executes.
        Running,
        /// The program exited with 0.
        Completed,
        /// The program exited with another code, or a signal ended it.
        NonZeroExit,
        /// The program ran longer than `timeoutSeconds` and was killed.
        DeadlineExceeded,
        /// No machine was free within `queueTimeoutSeconds`, or an object that the run refers to
        /// was still missing then.
        QueueTimeout,
        /// A user set `desiredState: Cancelled`.
        Cancelled,
        /// The machine ended during the attempt, or its agent does not know the attempt.
        GuestLost,
        /// The node that executed the run is gone: it did not renew its Lease in time.
        NodeLost,
        /// The operator was told to stop, and the run did not end in time.
        Evicted,
        /// Only of an attempt: a user set `spec.suspend` while it executed. The run is not over.
        Suspended,
        /// The golden snapshot of the run's pool is gone.
        SnapshotMissing,
        /// The run left more than `output.maxBytes`.
        OutputTooLarge,
        /// The program ended, but the node could not keep or fetch its output. `exitCode` has the
        /// program's own end. The run is tried again `backoffLimit` times.
        OutputLost,
        /// The agent of the machine refused to start the program; the message has the agent's
        /// reason. The run is not tried again: all machines of the pool have the same agent.
        Refused,
        /// The spec cannot be carried out; the message has the path of the field.
        InvalidSpec,
    }
);
