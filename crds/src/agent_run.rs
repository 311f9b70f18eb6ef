//! `AgentRun`: one execution. Code in; exit code, output and artifacts out.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AgentRunStatus, LocalRef};

/// One execution of a program in a machine of a pool.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "agentvm.dev",
    version = "v1alpha1",
    kind = "AgentRun",
    namespaced,
    status = "AgentRunStatus",
    shortname = "arun",
    category = "agentvm",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct AgentRunSpec {
    /// The pool that lends the machine. Default: the pool named `default`.
    #[serde(default = "default_pool")]
    pub pool_ref: LocalRef,
    /// A program as text. Exactly one of `code` and `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Program and arguments; no shell unless you name one. Exactly one of `code` and `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Who the program runs as. Default: Agent.
    #[serde(default)]
    pub run_as: RunAs,
    /// Environment variables, besides PATH, HOME, USER and LANG.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Files that the run finds in the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<InputFileSpec>,
    /// What the program reads from its standard input. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// How long one attempt may take, seconds. Default: the operator's `execution.default_timeout`, 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
    /// How long the run may wait for a machine, seconds. Default: 600.
    #[serde(default = "default_queue_timeout")]
    pub queue_timeout_seconds: i32,
    /// How often a failure of the infrastructure is tried again. A non-zero exit is a result, not such a failure. Default: 0.
    #[serde(default)]
    pub backoff_limit: i32,
    /// Runs of a higher priority get a machine first; among equals the older one. Default: 0.
    #[serde(default)]
    pub priority: i32,
    /// The object and its output are deleted this long after the end, seconds. Default: 86400. The only field besides `desiredState` that can be changed.
    #[serde(default = "default_ttl")]
    pub ttl_seconds_after_finished: i32,
    /// `Cancelled` stops the run; there is no way back. Default: Running.
    #[serde(default)]
    pub desired_state: DesiredState,
    /// What is taken from `/workspace/output` after the run.
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

/// A program as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Code {
    /// What executes the text.
    pub language: Language,
    /// The text.
    pub source: String,
}

/// What executes a program's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Language {
    /// python3
    Python,
    /// bash
    Bash,
    /// node
    JavaScript,
}

/// Who a program runs as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunAs {
    /// uid 1000, HOME=/home/agent.
    #[default]
    Agent,
    /// uid 0 of the machine.
    Root,
}

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name: letters, digits and `_`, not beginning with a digit.
    pub name: String,
    /// Value. At most one of `value` and `valueFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where the value comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueSource>,
}

/// A value out of a Secret or ConfigMap. Exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValueSource {
    /// A key of a Secret in the run's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
    /// A key of a ConfigMap in the run's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
}

/// A key of a Secret or ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// Name of the object.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// The content of a file out of a Secret or ConfigMap. Exactly one.
pub type ContentSource = ValueSource;

/// Where a file is put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Place {
    /// `/workspace/input`, read-only.
    #[default]
    Input,
    /// `/workspace/secrets`, a tmpfs of the machine: never on a disk of the host.
    Secrets,
}

/// A file that the run finds in the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InputFileSpec {
    /// Path below its place: relative, without `..`.
    pub path: String,
    /// Content as text. Exactly one of `content`, `contentBase64` and `contentFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Content as base64, for what isn't text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_base64: Option<String>,
    /// Content out of a Secret (only with `place: Secrets`) or ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_from: Option<ContentSource>,
    /// Permission bits, e.g. 0755 (octal in YAML) or 493. Default: 0644 (420).
    #[serde(default = "default_mode")]
    pub mode: i32,
    /// Where it is put. Default: Input.
    #[serde(default)]
    pub place: Place,
}

fn default_mode() -> i32 {
    0o644
}

/// What is wanted of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DesiredState {
    /// Carry it out.
    #[default]
    Running,
    /// Stop it.
    Cancelled,
}

/// What is taken from `/workspace/output`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputSpec {
    /// Paths to take: `*` within a name, `**` across folders. Default: all.
    #[serde(default = "default_include")]
    pub include: Vec<String>,
    /// Bytes at the most, all files together; also the limit of stdout and of stderr. More ends the run with `OutputTooLarge`. Default: 10485760.
    #[serde(default = "default_max_bytes")]
    pub max_bytes: i64,
}

impl Default for OutputSpec {
    fn default() -> Self {
        Self { include: default_include(), max_bytes: default_max_bytes() }
    }
}

fn default_include() -> Vec<String> {
    vec!["**".to_owned()]
}

fn default_max_bytes() -> i64 {
    10_485_760
}
