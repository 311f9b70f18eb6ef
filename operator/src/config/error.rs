//! What can be wrong with a configuration, in the words of whoever has to correct it.

use std::fmt;
use std::path::PathBuf;

use super::Origin;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `--config` names a file that isn't there.
    #[error("{}: there is no such file; correct --config, or leave it out", path.display())]
    Missing { path: PathBuf },
    /// A file is there and can't be read.
    #[error("{}: could not read it; make it readable for this user, or move it away", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A file isn't YAML, or isn't a mapping of sections.
    #[error("{}: not a configuration file: {detail}", path.display())]
    Syntax { path: PathBuf, detail: String },
    /// Values that can't be used: all of them, so that they can be corrected in one go.
    #[error("{}", lines(.0))]
    Wrong(Vec<Problem>),
}

/// One value, or one key, that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub origin: Origin,
    pub key: String,
    /// What is wrong, and what is allowed.
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
