//! `AgentRun`: one execution of a program. Code goes in; exit code, output and artifacts come out.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent_run_cel::{
    cancelled_for_good, code_or_command, no_second_main, text_fits_into_a_spec,
};
use crate::agent_run_files::{InputFileSpec, OutputSpec};
use crate::agent_run_program::{Code, EnvVar};
use crate::cel::{immutable, names_a_program};
use crate::schema::explain_values;
use crate::{AgentRunStatus, LocalRef};

/// The second half of the message that refuses a change of a run's field.
const MAKE_ANOTHER: &str = "only desiredState, suspend and ttlSecondsAfterFinished of a run can \
    be changed: create another AgentRun";

/// One execution of a program in a machine of a pool. The spec is at most 512 KiB, encoded as JSON.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "agentvm.dev",
    version = "v1alpha1",
    kind = "AgentRun",
    doc = "One execution of a program in a machine that is provably in its golden state. Code goes \
        in; exit code, output and artifacts come out. Creating the object starts the run. The \
        result is in `status`.",
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
        description = "Reason of the condition Succeeded: the state of the run, or its end"
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
        description = "Time that the program ran"
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
        description = "Machine that executes the run"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Node",
        type_ = "string",
        json_path = ".status.nodeName",
        description = "Node that executes the run",
        priority = 1
    ),
    printcolumn(
        name = "Scheduled",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Scheduled")].message"#,
        description = "Cause of the waiting",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Succeeded")].message"#,
        description = "Result of the run, for people",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = code_or_command())]
#[x_kube(validation = text_fits_into_a_spec())]
#[x_kube(validation = no_second_main())]
#[x_kube(validation = immutable("poolRef", MAKE_ANOTHER))]
#[x_kube(validation = immutable("code", MAKE_ANOTHER))]
#[x_kube(validation = immutable("command", MAKE_ANOTHER))]
#[x_kube(validation = immutable("runAs", MAKE_ANOTHER))]
#[x_kube(validation = immutable("env", MAKE_ANOTHER))]
#[x_kube(validation = immutable("files", MAKE_ANOTHER))]
#[x_kube(validation = immutable("stdin", MAKE_ANOTHER))]
#[x_kube(validation = immutable("timeoutSeconds", MAKE_ANOTHER))]
#[x_kube(validation = immutable("queueTimeoutSeconds", MAKE_ANOTHER))]
#[x_kube(validation = immutable("backoffLimit", MAKE_ANOTHER))]
#[x_kube(validation = immutable("priority", MAKE_ANOTHER))]
#[x_kube(validation = immutable("queue", MAKE_ANOTHER))]
#[x_kube(validation = immutable("managedBy", MAKE_ANOTHER))]
#[x_kube(validation = immutable("output", MAKE_ANOTHER))]
#[x_kube(validation = cancelled_for_good())]
pub struct AgentRunSpec {
    /// Pool that lends the machine, in the run's namespace. If the pool does not exist (yet), the
    /// run waits for it, up to `queueTimeoutSeconds`. Default: the pool named `default`. Immutable.
    #[serde(default = "default_pool")]
    pub pool_ref: LocalRef,
    /// Program as text, e.g. `{language: Python, source: "print(1)"}`. It is the file `main.py`,
    /// `main.sh` or `main.js` in the working directory, beside the files of `files`. Exactly one of
    /// `code` and `command`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Program and arguments, e.g. `["python3", "-m", "unittest"]`. The program is searched on
    /// PATH. It runs without a shell; for a shell, name one: `["bash", "-c", "…"]`. 1 to 1024
    /// items, each at most 131071 characters and without NUL. Exactly one of `code` and `command`.
    /// Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 1024),
        inner(length(max = 131_071), regex(pattern = r"^[^\x00]*$"))
    )]
    #[x_kube(validation = names_a_program())]
    pub command: Option<Vec<String>>,
    /// User that the program runs as, in the machine. Default: Agent. Immutable.
    #[serde(default)]
    #[schemars(transform = explain_values)]
    pub run_as: RunAs,
    /// Environment variables of the program. They are added to PATH, HOME, USER and LANG, and may
    /// replace these. At most 256; each name at most once; all names and values together at most
    /// 524288 bytes, and with `command` and `stdin` at most 1044480 bytes on their way into the
    /// machine (base64 takes four bytes for three). Default: none. Immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub env: Vec<EnvVar>,
    /// Files that the run finds in the machine, below `/workspace/input` or `/workspace/secrets`.
    /// The working directory `/workspace/work` begins with a copy of those in `/workspace/input`.
    /// At most 256; each path at most once in one place. Files with `place: Secrets` have at most
    /// 16777216 bytes together (16 MiB, each file in blocks of 4096), and at most 4096 files and
    /// folders. Default: none. Immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["place".to_owned(), "path".to_owned()]))]
    pub files: Vec<InputFileSpec>,
    /// Text that the program reads from its standard input. Default: nothing, an immediate end of
    /// file. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 524_288))]
    pub stdin: Option<String>,
    /// Time limit of one attempt, seconds. After it the program gets SIGTERM, and SIGKILL 5 s
    /// later; the run ends with `DeadlineExceeded`. 1 to 604800, and at most the pool's
    /// `maxRunSeconds`. Default: the operator's `execution.default_timeout`, 300, or
    /// `maxRunSeconds` if that is less. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub timeout_seconds: Option<i32>,
    /// Time limit for waiting, seconds from the run's creation. The run may wait for a machine, its
    /// pool, Secrets and ConfigMaps; after the limit it ends with `QueueTimeout`. 1 to 604800.
    /// Default: 600. Immutable.
    #[serde(default = "default_queue_timeout")]
    #[schemars(range(min = 1, max = 604_800))]
    pub queue_timeout_seconds: i32,
    /// Number of further attempts after failures of the infrastructure (machine or node lost). A
    /// non-zero exit code is a result, not such a failure. 0 to 10. Default: 0. Immutable.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10))]
    pub backoff_limit: i32,
    /// Runs of a higher priority get a machine first. Runs of equal priority get machines by the
    /// fair share of their `queue.key`, then by age. -1000 to 1000. Default: 0. Immutable.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
    /// Share of the pool that the run uses while it waits for a machine. Default: the share of all
    /// runs without a key. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueSpec>,
    /// If true, the run does not start, and the time for waiting does not pass. A program that
    /// runs is stopped; this attempt does not count for `backoffLimit`, and the run begins with
    /// another attempt when `suspend` is false again. Default: false. Can be changed at any time.
    #[serde(default)]
    pub suspend: bool,
    /// Controller that carries out the run, as in `batch/v1` Job. The operator ignores a run with
    /// another value than `agentvm.dev/operator`. A domain, a slash and a path; at most 63
    /// characters. Default: this operator. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 3, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9/_.~%!$&'()*+,;=:-]+$")
    )]
    pub managed_by: Option<String>,
    /// Time from the run's end to the deletion of the object and its output, seconds. 0 (at once)
    /// to 31536000 (a year). Default: 86400 (a day). Can be changed at any time.
    #[serde(default = "default_ttl")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: i32,
    /// State that you want the run to have. It can be changed once, from Running to Cancelled:
    /// `kubectl patch arun NAME --type=merge -p '{"spec":{"desiredState":"Cancelled"}}'`. Default:
    /// Running.
    #[serde(default)]
    #[schemars(transform = explain_values)]
    pub desired_state: DesiredState,
    /// Files to take from `/workspace/output` after the run. Default: all, up to 10 MiB. Immutable.
    #[serde(default)]
    pub output: OutputSpec,
}

/// The share that a run uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueSpec {
    /// Name of the share, e.g. the user or the team: runs with equal keys share it. Machine-seconds
    /// are charged to the key, and runs of the key that used less get a machine first. Letters,
    /// digits, `-`, `_` and `.`; 1 to 63 characters, the first and the last one a letter or a
    /// digit. Default: the share of all runs without a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub key: Option<String>,
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

/// The user that a program runs as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunAs {
    /// the user `agent`, uid 1000, HOME=/home/agent.
    #[default]
    Agent,
    /// uid 0 of the machine.
    Root,
}

/// The state that a user wants a run to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DesiredState {
    /// the run is carried out.
    #[default]
    Running,
    /// the run is stopped; it cannot be started again.
    Cancelled,
}
