//! The files that a run gets, and the choice of the files that it leaves.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ValueSource;
use crate::agent_run_cel::{permission_bits, secret_stays_off_the_disk};
use crate::cel::{exactly_one_of, no_control_characters, relative_path};
use crate::schema::explain_values;

/// The content of a file from a Secret or a ConfigMap.
pub type ContentSource = ValueSource;

/// The folder that a file goes into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Place {
    /// `/workspace/input`, read-only for the run. The working directory begins with a copy, which
    /// the run may change.
    #[default]
    Input,
    /// `/workspace/secrets`, a tmpfs in the memory of the machine. The file is on no disk of the
    /// host, unless the host swaps.
    Secrets,
}

/// A file that the run finds in the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = exactly_one_of(&["content", "contentBase64", "contentFrom"]))]
#[x_kube(validation = secret_stays_off_the_disk())]
pub struct InputFileSpec {
    /// Path below the file's place, e.g. `src/main.py`: relative, without `.`, `..` and empty
    /// segments, without control characters; 1 to 1024 characters. Missing folders are created.
    /// Beside `code`, the name of its own file is taken: `main.py`, `main.sh` or `main.js`.
    /// Required.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = relative_path(), validation = no_control_characters())]
    pub path: String,
    /// Content as text, written as UTF-8; at most 524288 characters. Exactly one of `content`,
    /// `contentBase64` and `contentFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 524_288))]
    pub content: Option<String>,
    /// Content as base64, for files that are not text: the standard alphabet, padded (`base64`
    /// writes it so); at most 524288 characters. Exactly one of `content`, `contentBase64` and
    /// `contentFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 524_288), regex(pattern = r"^[A-Za-z0-9+/\s]*[=\s]*$"))]
    pub content_base64: Option<String>,
    /// Content from a Secret (only with `place: Secrets`) or a ConfigMap. Exactly one of `content`,
    /// `contentBase64` and `contentFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_from: Option<ContentSource>,
    /// Permission bits: 0755 (YAML reads the leading zero as octal) or 493, the same number in
    /// decimal. 0 to 0777 (511). Default: 0644 (420).
    #[serde(default = "default_mode")]
    #[x_kube(validation = permission_bits())]
    pub mode: i32,
    /// Folder that the file goes into. Default: Input.
    #[serde(default)]
    #[schemars(transform = explain_values)]
    pub place: Place,
}

fn default_mode() -> i32 {
    0o644
}

/// The files to take from `/workspace/output`, and their size limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputSpec {
    /// Patterns of the paths to take, relative to `/workspace/output`, e.g. `["report.txt",
    /// "logs/**"]`. `*` matches any characters within a name, also a leading dot. `?` matches one
    /// byte within a name (`é` has two). `**` as a whole name matches any number of folders:
    /// `logs/**` matches `logs` and all below it, `**/*.xml` matches in every folder. `{a,b}`
    /// matches `a` or `b`; braces nest up to 4 deep. `[ab]` and `[a-z]` match one ASCII character
    /// of these, `[!ab]` one byte that is none of these, never `/`. `\` takes the special meaning
    /// from the next character. Upper and lower case differ. At most 64 items of 1 to 1024
    /// characters; those with wildcards have at most 2048 bytes together. An empty list takes
    /// nothing. Default: `["**"]`, all.
    #[serde(default = "default_include")]
    #[schemars(
        length(max = 64),
        inner(
            length(min = 1, max = 1024),
            regex(pattern = r"^[^/\x00-\x1f\x7f][^\x00-\x1f\x7f]*$")
        )
    )]
    pub include: Vec<String>,
    /// Limit for all files together, bytes. A run that leaves more ends with `OutputTooLarge`. It
    /// is also the limit of stdout, and of stderr: of a longer stream the beginning and the end are
    /// kept, and a line between them says how much is missing. 1 to 1073741824 (1 GiB). Default:
    /// 10485760 (10 MiB).
    #[serde(default = "default_max_bytes")]
    #[schemars(range(min = 1, max = 1_073_741_824))]
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
