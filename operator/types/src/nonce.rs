//! The name of one incarnation of a machine.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::hex::hex;

/// Names one incarnation of a machine, and so one attempt: 32 lower-case hex characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(String);

/// A text that is not a nonce.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a nonce is 32 lower-case hex characters")]
pub struct NonceError;

impl Nonce {
    /// The nonce of 16 random bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(hex(&bytes))
    }

    /// The 32 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Nonce {
    type Error = NonceError;

    fn try_from(text: String) -> Result<Self, NonceError> {
        let hex = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex { Ok(Self(text)) } else { Err(NonceError) }
    }
}

impl FromStr for Nonce {
    type Err = NonceError;

    fn from_str(text: &str) -> Result<Self, NonceError> {
        text.to_owned().try_into()
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        nonce.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_nonce_is_read_back(bytes in any::<[u8; 16]>()) {
            let nonce = Nonce::from_bytes(bytes);
            prop_assert_eq!(nonce.as_str().len(), 32);
            prop_assert_eq!(nonce.to_string().parse(), Ok(nonce));
        }

        #[test]
        fn only_32_hex_characters_are_a_nonce(text in ".{0,40}") {
            let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            let hex = text.len() == 32 && text.bytes().all(hex);
            prop_assert_eq!(text.parse::<Nonce>().is_ok(), hex);
        }
    }
}
