//! Says what is wrong with a path that is not a key: "did you mean …?".

use super::file::Content;
use super::keys::nearest;

/// The mistake of a path that is not a key. An empty section is not a mistake.
pub(super) fn unknown(path: &str, content: &Content, known: &[&str]) -> Option<String> {
    let within: Vec<&str> =
        known.iter().filter_map(|key| key.strip_prefix(path)?.strip_prefix('.')).collect();
    if !within.is_empty() {
        let keys = within.join(", ");
        return (*content != Content::Empty)
            .then(|| format!("is a section, not a value; its keys: {keys}"));
    }
    let parent =
        known.iter().find(|key| path.strip_prefix(**key).is_some_and(|rest| rest.starts_with('.')));
    if let Some(parent) = parent {
        return Some(format!("there is no such key: {parent} takes a value, not a section"));
    }
    if let Some(near) = nearest(path, known.iter().copied()) {
        return Some(format!("there is no such key; did you mean {near}?"));
    }
    Some(format!("there is no such key; the keys are {}", known.join(", ")))
}
