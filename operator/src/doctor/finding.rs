//! What a check says: one finding, in words that lead to a command. Knows nothing of any check.

use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing to do.
    Info,
    /// It works, slower or with less.
    Warning,
    /// The main job can't be done: no run would be executed.
    Error,
}

/// The answer of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable, for programs and for docs/troubleshooting.md.
    pub id: &'static str,
    pub title: &'static str,
    pub level: Level,
    /// What there is.
    pub found: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do; empty where nothing is to be done.
    pub mend: String,
}

/// A check that hasn't been answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    pub id: &'static str,
    pub title: &'static str,
    pub why: &'static str,
}

impl Check {
    pub fn ok(self, found: impl Into<String>) -> Finding {
        self.finding(Level::Ok, found.into(), String::new())
    }

    pub fn info(self, found: impl Into<String>, mend: impl Into<String>) -> Finding {
        self.finding(Level::Info, found.into(), mend.into())
    }

    pub fn warning(self, found: impl Into<String>, mend: impl Into<String>) -> Finding {
        self.finding(Level::Warning, found.into(), mend.into())
    }

    pub fn error(self, found: impl Into<String>, mend: impl Into<String>) -> Finding {
        self.finding(Level::Error, found.into(), mend.into())
    }

    fn finding(self, level: Level, found: String, mend: String) -> Finding {
        Finding { id: self.id, title: self.title, level, found, why: self.why, mend }
    }
}

/// Can the main job be done?
pub fn can_run(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.level != Level::Error)
}
