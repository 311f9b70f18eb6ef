//! The secret that a host shows to the agent of one incarnation.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Nonce;

/// A machine's token: HELLO must carry it after REHYDRATE. It never appears in a log: `Debug` hides
/// it.
///
/// The text is not checked here. A token that is wrong in any way is refused, in the time that a
/// right one takes.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Takes the text of a record or of a message.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that depends only on the lengths.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.bytes().zip(other.0.bytes()).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
    }
}

/// A fresh nonce is a fresh token: 16 random bytes in hex.
impl From<Nonce> for Token {
    fn from(random: Nonce) -> Self {
        Self(random.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_matches_itself_only_and_is_not_shown() {
        let token = Token::new("abc");
        assert!(token.matches(&Token::new("abc")));
        for other in ["", "ab", "abd", "abcd"] {
            assert!(!token.matches(&Token::new(other)), "{other}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
        assert_eq!(serde_json::to_string(&token).unwrap(), "\"abc\"");
    }
}
