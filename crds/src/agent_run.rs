//! `AgentRun`: one execution. Code in; exit code, output and artifacts out.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent_run_inputs::{Code, EnvVar, InputFileSpec, OutputSpec};
use crate::agent_run_rules::{cancelled_for_good, text_fits_into_a_spec};
use crate::rules::{immutable, names_a_program, one_of_two};
use crate::schema::explain_values;
use crate::{AgentRunStatus, LocalRef};

/// Said when a field of a run is changed.
const MAKE_ANOTHER: &str = "of a run only desiredState and ttlSecondsAfterFinished can be changed: create another AgentRun";

/// One execution of a program in a machine of a pool. The spec is at most 512 KiB, encoded as JSON.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "agentvm.dev",
    version = "v1alpha1",
    kind = "AgentRun",
    doc = "One execution of a program in a machine that is provably in its golden state: code in; exit code, output and \
        artifacts out. Runs once it is created; the result is in `status`.",
    namespaced,
    status = "AgentRunStatus",
    shortname = "arun",
    category = "agentvm",
    derive = "PartialEq",
    selectable = ".spec.poolRef.name",
    selectable = ".status.nodeName",
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Succeeded")].reason"#,
        description = "Reason of the condition Succeeded: how it stands, or how it ended"
    ),
    printcolumn(
        name = "Exit",
        type_ = "integer",
        json_path = ".status.exitCode",
        description = "Exit code"
    ),
    printcolumn(
        name = "Seconds",
        type_ = "number",
        json_path = ".status.durationSeconds",
        description = "How long the program ran"
    ),
    printcolumn(
        name = "Pool",
        type_ = "string",
        json_path = ".spec.poolRef.name",
        description = "Pool that lends the machine"
    ),
    printcolumn(
        name = "Machine",
        type_ = "string",
        json_path = ".status.vmName",
        description = "Machine that executes it"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Node",
        type_ = "string",
        json_path = ".status.nodeName",
        description = "Node that executes it",
        priority = 1
    ),
    printcolumn(
        name = "Scheduled",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Scheduled")].message"#,
        description = "What it waits for",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Succeeded")].message"#,
        description = "How it ended, for people",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = one_of_two("code", "command"))]
#[x_kube(validation = text_fits_into_a_spec())]
#[x_kube(validation = immutable("poolRef", MAKE_ANOTHER), validation = immutable("code", MAKE_ANOTHER))]
#[x_kube(validation = immutable("command", MAKE_ANOTHER), validation = immutable("runAs", MAKE_ANOTHER))]
#[x_kube(validation = immutable("env", MAKE_ANOTHER), validation = immutable("files", MAKE_ANOTHER))]
#[x_kube(validation = immutable("stdin", MAKE_ANOTHER), validation = immutable("timeoutSeconds", MAKE_ANOTHER))]
#[x_kube(validation = immutable("queueTimeoutSeconds", MAKE_ANOTHER))]
#[x_kube(validation = immutable("backoffLimit", MAKE_ANOTHER))]
#[x_kube(validation = immutable("priority", MAKE_ANOTHER), validation = immutable("output", MAKE_ANOTHER))]
#[x_kube(validation = cancelled_for_good())]
pub struct AgentRunSpec {
    /// The pool that lends the machine, in the run's namespace. A pool that doesn't exist (yet) is waited for, up to
    /// `queueTimeoutSeconds`. Default: the pool named `default`. Immutable.
    #[serde(default = "default_pool")]
    pub pool_ref: LocalRef,
    /// A program as text, e.g. `{language: Python, source: "print(1)"}`. Exactly one of `code` and `command`.
    /// Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Program and arguments, e.g. `["python3", "-m", "unittest"]`; found on PATH; no shell unless you name one:
    /// `["bash", "-c", "…"]`. 1 to 1024 items, each at most 131071 characters and without NUL. Exactly one of `code`
    /// and `command`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 1024),
        inner(length(max = 131_071), regex(pattern = r"^[^\x00]*$"))
    )]
    #[x_kube(validation = names_a_program())]
    pub command: Option<Vec<String>>,
    /// Who the program runs as, in the machine. Default: Agent. Immutable.
    #[serde(default)]
    #[schemars(transform = explain_values)]
    pub run_as: RunAs,
    /// Environment variables, besides PATH, HOME, USER and LANG, which they may replace. At most 256, no name twice.
    /// Default: none. Immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub env: Vec<EnvVar>,
    /// Files that the run finds in the machine, below `/workspace/input` or `/workspace/secrets`. At most 256, no path
    /// twice in one place. Default: none. Immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["place".to_owned(), "path".to_owned()]))]
    pub files: Vec<InputFileSpec>,
    /// What the program reads from its standard input, as text. Default: nothing, an immediate end of file. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 524_288))]
    pub stdin: Option<String>,
    /// How long one attempt may take, seconds; then SIGTERM, 5 s later SIGKILL, and the run ends with
    /// `DeadlineExceeded`. 1 to 604800, and at most the pool's `maxRunSeconds`. Default: the operator's
    /// `execution.default_timeout`, 300, or `maxRunSeconds` where that is less. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub timeout_seconds: Option<i32>,
    /// How long the run may wait for a machine, its pool, Secrets and ConfigMaps, seconds from its creation; then it
    /// ends with `QueueTimeout`. 1 to 604800. Default: 600. Immutable.
    #[serde(default = "default_queue_timeout")]
    #[schemars(range(min = 1, max = 604_800))]
    pub queue_timeout_seconds: i32,
    /// How often a failure of the infrastructure (machine or node lost) is tried again. A non-zero exit is a result,
    /// not such a failure. 0 to 10. Default: 0. Immutable.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10))]
    pub backoff_limit: i32,
    /// Runs of a higher priority get a machine first; among equals the older one. -1000 to 1000. Default: 0. Immutable.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
    /// The object and its output are deleted this long after the end, seconds. 0 (at once) to 31536000 (a year).
    /// Default: 86400 (a day). Can be changed at any time.
    #[serde(default = "default_ttl")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: i32,
    /// What is wanted of the run. It can be changed once, from Running to Cancelled:
    /// `kubectl patch arun NAME --type=merge -p '{"spec":{"desiredState":"Cancelled"}}'`. Default: Running.
    #[serde(default)]
    #[schemars(transform = explain_values)]
    pub desired_state: DesiredState,
    /// What is taken from `/workspace/output` after the run. Default: all, up to 10 MiB. Immutable.
    #[serde(default)]
    pub output: OutputSpec,
}

fn default_pool() -> LocalRef {
    LocalRef { name: "default".to_owned() }
}

fn default_queue_timeout() -> i32 {
    600
}

fn default_ttl() -> i32 {
    86_400
}

/// Who a program runs as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunAs {
    /// the user `agent`, uid 1000, HOME=/home/agent.
    #[default]
    Agent,
    /// uid 0 of the machine.
    Root,
}

/// What is wanted of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DesiredState {
    /// carry it out.
    #[default]
    Running,
    /// stop it; there is no way back.
    Cancelled,
}
