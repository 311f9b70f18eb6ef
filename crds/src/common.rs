//! Small types that more than one kind uses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The size limit of a spec, encoded as JSON.
pub const MAX_SPEC_BYTES: usize = 512 * 1024;
/// The size limit of a status, encoded as JSON. It holds whatever a run did.
pub const MAX_STATUS_BYTES: usize = 128 * 1024;

/// The name of an object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Name of the object, in the namespace of the object that refers to it. Lower-case letters,
    /// digits, `-` and `.`; at most 253 characters. Required.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}
