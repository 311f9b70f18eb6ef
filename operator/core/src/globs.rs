//! Globs over paths of `/workspace/output`. The API reference has the grammar, at `output.include`.
//!
//! A tenant writes the patterns, so `check` bounds all that they can cost: the number, the length
//! and the nesting. One regular expression without counted repetition matches all patterns with
//! wildcards. Its size and the time of a match are then proportional to the patterns' length.

mod normalise;

use std::collections::BTreeSet;

use globset::{ErrorKind, GlobBuilder, GlobSet};

use normalise::{is_literal, normalise};

/// The API server checks the number and the length too.
const MAX_PATTERNS: usize = 64;
/// In characters.
const MAX_LENGTH: usize = 1024;
/// Bytes of all patterns that have a wildcard. The worst ones compile in 4 ms and need 10 MiB. They
/// match a path of 16 KiB, the longest, in 65 ms (measured, optimised).
const MAX_WILDCARD_BYTES: usize = 2048;

/// A pattern that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct BadGlob {
    /// The place in the list. `None` if the whole list is at fault.
    pub index: Option<usize>,
    pub problem: String,
}

/// A set of globs. A path is in the set if one glob matches it. An empty set matches nothing.
#[derive(Clone, Debug)]
pub struct Globs {
    literals: BTreeSet<String>,
    wildcards: GlobSet,
}

impl Globs {
    /// Compiles patterns. It refuses all that [`check`] refuses.
    pub fn new(patterns: &[String]) -> Result<Self, BadGlob> {
        let (literals, wildcards) = sorted(patterns)?;
        // `{}` does not change a pattern's meaning, and hides it from the strategies of `globset`:
        // some of them compile an expression for each pattern, and each has a cache of 10 MiB.
        let joined = format!("{{{}}}", wildcards.join(","));
        let set = if wildcards.is_empty() {
            Ok(GlobSet::empty())
        } else {
            builder(&joined).build().and_then(|glob| GlobSet::new([glob]))
        };
        let wildcards = set.map_err(|error| BadGlob { index: None, problem: error.to_string() })?;
        Ok(Self { literals, wildcards })
    }

    /// Says whether a path belongs to the set. The path is relative, with `/` between names.
    pub fn matches(&self, path: &str) -> bool {
        self.literals.contains(path) || self.wildcards.is_match(path)
    }
}

/// Checks patterns without compiling them.
pub fn check(patterns: &[String]) -> Result<(), BadGlob> {
    sorted(patterns).map(drop)
}

/// Literal paths, and patterns with wildcards in the form that `globset` gets.
fn sorted(patterns: &[String]) -> Result<(BTreeSet<String>, Vec<String>), BadGlob> {
    check_sizes(patterns)?;
    let (mut literals, mut wildcards) = (BTreeSet::new(), Vec::new());
    for (index, pattern) in patterns.iter().enumerate() {
        let bad = |problem| BadGlob { index: Some(index), problem };
        let text = normalise(pattern).map_err(bad)?;
        if is_literal(pattern) {
            literals.insert(text);
        } else {
            builder(&text).build().map_err(|error| bad(explained(error.kind())))?;
            wildcards.push(text);
        }
    }
    Ok((literals, wildcards))
}

fn check_sizes(patterns: &[String]) -> Result<(), BadGlob> {
    let whole = |problem| Err(BadGlob { index: None, problem });
    if patterns.len() > MAX_PATTERNS {
        return whole(format!("has {} items; at most {MAX_PATTERNS} are allowed", patterns.len()));
    }
    if let Some(index) = patterns.iter().position(|p| p.chars().count() > MAX_LENGTH) {
        let problem = format!("is longer than {MAX_LENGTH} characters; write a shorter pattern");
        return Err(BadGlob { index: Some(index), problem });
    }
    let bytes: usize = patterns.iter().filter(|p| !is_literal(p)).map(String::len).sum();
    if bytes > MAX_WILDCARD_BYTES {
        return whole(format!(
            "the items with wildcards are {bytes} bytes together; at most {MAX_WILDCARD_BYTES} are \
             allowed: take a folder with `folder/**`, or write fewer items"
        ));
    }
    Ok(())
}

fn builder(pattern: &str) -> GlobBuilder<'_> {
    let mut builder = GlobBuilder::new(pattern);
    builder.literal_separator(true).backslash_escape(true).empty_alternates(true);
    builder
}

fn explained(kind: &ErrorKind) -> String {
    let open = |what, counterpart| {
        format!("`{what}` has no `{counterpart}`; write `\\{what}` for the character itself")
    };
    match kind {
        ErrorKind::UnclosedClass => open('[', ']'),
        ErrorKind::UnclosedAlternates => open('{', '}'),
        ErrorKind::UnopenedAlternates => open('}', '{'),
        ErrorKind::DanglingEscape => r"ends with `\`; write `\\` for the character itself".into(),
        ErrorKind::InvalidRange(first, last) => {
            format!("the range `{first}-{last}` is in the wrong order; write `{last}-{first}`")
        }
        other => format!("is not a pattern: {other}"),
    }
}

#[cfg(test)]
mod tests;
