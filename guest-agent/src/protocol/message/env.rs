//! One variable of the environment: any bytes but NUL reach the program as they are.

use serde::{Deserialize, Serialize};

use crate::protocol::values::{Blob, Secret};

/// One variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value; often a secret.
    pub value: Secret,
}

/// A variable in JSON. A value that is no text, or that is shorter in base64, comes as `bytes`.
/// Then there is no `value`, so that an older agent refuses the message and does not set the
/// variable to something else.
#[derive(Serialize, Deserialize)]
struct Wire {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<Blob>,
}

/// Neither `value` nor `bytes` is there, or both are.
#[derive(Debug, thiserror::Error)]
#[error("a variable needs either `value` or `bytes`")]
struct NotOneValue;

impl From<EnvVar> for Wire {
    fn from(var: EnvVar) -> Self {
        let bytes = var.value.expose();
        let text = std::str::from_utf8(bytes).ok().filter(|text| escaped(text) <= encoded(text));
        let value = text.map(str::to_owned);
        let bytes = value.is_none().then(|| Blob(bytes.to_vec()));
        Self { name: var.name, value, bytes }
    }
}

impl TryFrom<Wire> for EnvVar {
    type Error = NotOneValue;

    fn try_from(Wire { name, value, bytes }: Wire) -> Result<Self, NotOneValue> {
        match (value, bytes) {
            (Some(text), None) => Ok(Self { name, value: Secret::new(text) }),
            (None, Some(bytes)) => Ok(Self { name, value: Secret::new(bytes.0) }),
            _ => Err(NotOneValue),
        }
    }
}

/// The length of a text in JSON.
fn escaped(text: &str) -> usize {
    let length = |byte: u8| match byte {
        b'"' | b'\\' | 0x08 | b'\t' | b'\n' | 0x0c | b'\r' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(length).sum()
}

/// The length of a text in base64. A short text stays a text.
fn encoded(text: &str) -> usize {
    text.len().div_ceil(3) * 4 + 32
}
