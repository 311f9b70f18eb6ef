//! Words of a guest, made harmless at the border.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Marks the place where a text was cut.
const MARK: &str = " […]";

/// Words that came from a guest, for logs, statuses and Events: one line of at most
/// [`GuestText::MAX`] bytes. A control character stands there as its escape, so no terminal obeys
/// it and no log line can be forged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct GuestText(String);

impl GuestText {
    /// The longest text, in bytes.
    pub const MAX: usize = 512;

    /// Escapes and cuts. The work is bounded by [`GuestText::MAX`], not by the text.
    pub fn new(text: &str) -> Self {
        Self(one_line(text, Self::MAX))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The beginning of a text in one line of at most `max` bytes, with each character escaped that a
/// terminal or a reader of logs may obey. A text that went through this does not change again.
pub fn one_line(text: &str, max: usize) -> String {
    let room = max.saturating_sub(MARK.len());
    // The place to cut at, should the text turn out to be too long.
    let (mut line, mut cut) = (String::new(), 0);
    for character in text.chars() {
        if obeyed(character) {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
        if line.len() <= room {
            cut = line.len();
        } else if line.len() > max {
            line.truncate(cut);
            line.push_str(MARK);
            break;
        }
    }
    line
}

/// Control characters, separators of lines, and characters that change the direction of a text.
fn obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

impl fmt::Display for GuestText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for GuestText {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for GuestText {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl<'de> Deserialize<'de> for GuestText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(&Cow::<'de, str>::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_line_is_forged_and_no_terminal_obeys() {
        let forged = "no\n2026-01-01 ERROR all is lost\r\u{1b}[2J\u{9b}31m\u{202e}\0";
        let text = GuestText::new(forged);
        assert_eq!(
            text.as_str(),
            r"no\n2026-01-01 ERROR all is lost\r\u{1b}[2J\u{9b}31m\u{202e}\u{0}"
        );
        assert_eq!(GuestText::new("mkdir /ünder: \\n").as_str(), "mkdir /ünder: \\n");
        let sent = serde_json::to_string(&"x\n".repeat(1 << 20)).unwrap();
        let text: GuestText = serde_json::from_str(&sent).unwrap();
        assert!(text.as_str().len() <= GuestText::MAX && text.as_str().ends_with(MARK));
    }

    proptest! {
        #[test]
        fn any_text_is_one_short_line_and_stays_as_it_is(text in any::<String>(),
            times in 1_usize..40, max in 8_usize..600) {
            let line = one_line(&text.repeat(times), max);
            prop_assert!(line.len() <= max && !line.chars().any(obeyed), "{line:?}");
            prop_assert_eq!(one_line(&line, max), line);
        }
    }
}
