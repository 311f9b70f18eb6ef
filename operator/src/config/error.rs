//! The mistakes of a configuration, in words that help to correct them.

use std::fmt;
use std::path::PathBuf;

use super::Origin;

/// The reason why there is no valid configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `--config` names a file that doesn't exist.
    #[error("{}: there is no such file; correct --config, or leave it out", path.display())]
    Missing { path: PathBuf },
    /// A file exists but can't be read.
    #[error("{}: could not read it; make it readable for this user, or move \
             it away", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A file is not YAML, or not a mapping of sections.
    #[error("{}: not a configuration file: {detail}", path.display())]
    Syntax { path: PathBuf, detail: String },
    /// Values that can't be used. The error lists all of them, so that the user can correct them at
    /// once.
    #[error("{}", lines(.0))]
    Wrong(Vec<Problem>),
}

/// A value or a key that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub origin: Origin,
    pub key: String,
    /// The mistake, and the values that are allowed.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.origin, self.key, self.what)
    }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
