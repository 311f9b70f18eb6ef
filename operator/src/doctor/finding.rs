//! The result of a check: one finding, whose words lead to a command. This file depends on no
//! check.

use serde::Serialize;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Right.
    Ok,
    /// Worth knowing; no action needed.
    Info,
    /// agentvm works, but slower or with less.
    Warning,
    /// No run would be executed on this host.
    Error,
}

/// The answer of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable name, for programs and for docs/troubleshooting.md.
    pub id: &'static str,
    pub title: &'static str,
    pub level: Level,
    /// The state that the check found.
    pub found: String,
    /// The reason why it matters.
    pub why: &'static str,
    /// The remedy; empty if no action is needed.
    pub mend: String,
}

/// A check before its result.
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

/// Whether runs can be executed on this host.
pub fn can_run(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.level != Level::Error)
}
