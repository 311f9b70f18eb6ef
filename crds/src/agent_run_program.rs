//! The program of a run as text, and its environment variables.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent_run_cel::name_of_a_variable;
use crate::cel::{not_both, one_of_two};
use crate::schema::explain_values;

/// A program as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Code {
    /// Interpreter that executes the text. Required.
    #[schemars(transform = explain_values)]
    pub language: Language,
    /// The text. 1 to 524288 characters, without NUL; the whole spec is at most 512 KiB. Required.
    #[schemars(length(min = 1, max = 524_288), regex(pattern = r"^[^\x00]+$"))]
    pub source: String,
}

/// The interpreter of a program's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Language {
    /// python3.
    Python,
    /// bash.
    Bash,
    /// node, as a CommonJS or an ES module: node sees which by the text.
    JavaScript,
}

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = not_both("value", "valueFrom"))]
pub struct EnvVar {
    /// Name: printable ASCII characters except `=`. 1 to 256 characters. Required.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = name_of_a_variable())]
    pub name: String,
    /// Value, without NUL; at most 65536 characters. Default: empty. At most one of `value` and
    /// `valueFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536), regex(pattern = r"^[^\x00]*$"))]
    pub value: Option<String>,
    /// Source of the value. Its bytes reach the program as they are; they need not be text, but NUL
    /// ends the run with `InvalidSpec`. Name and value together: at most 131070 bytes. At most one
    /// of `value` and `valueFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueSource>,
}

/// A value from a Secret or a ConfigMap. Exactly one of the two is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = one_of_two("secretKeyRef", "configMapKeyRef"))]
pub struct ValueSource {
    /// Key of a Secret in the run's namespace. If it does not exist (yet), the run waits for it, up
    /// to `queueTimeoutSeconds`. Exactly one of `secretKeyRef` and `configMapKeyRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
    /// Key of a ConfigMap in the run's namespace. If it does not exist (yet), the run waits for it,
    /// up to `queueTimeoutSeconds`. Exactly one of `secretKeyRef` and `configMapKeyRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
}

/// A key of a Secret or ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// Name of the object, in the run's namespace; at most 253 characters. Required.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key in the object: letters, digits, `-`, `_` and `.`; at most 253 characters. Required.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}
