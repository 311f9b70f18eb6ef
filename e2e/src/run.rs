//! A run as the API shows it, with short ways to the values that tests need.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use agentvm_crds::{AgentRun, AgentRunStatus, Condition, ConditionStatus, condition_type};
use kube::ResourceExt as _;

#[derive(Clone, Debug)]
pub struct Run {
    object: AgentRun,
    status: AgentRunStatus,
}

impl Run {
    pub fn new(object: AgentRun) -> Self {
        let status = object.status.clone().unwrap_or_default();
        Self { object, status }
    }

    /// Is the run over?
    pub fn is_over(object: &AgentRun) -> bool {
        succeeded(object).is_some_and(|condition| condition.status != ConditionStatus::Unknown)
    }

    pub fn name(&self) -> String {
        self.object.name_any()
    }

    pub fn status(&self) -> &AgentRunStatus {
        &self.status
    }

    /// The reason of `Succeeded`.
    pub fn reason(&self) -> &str {
        succeeded(&self.object).map_or("", |condition| &condition.reason)
    }

    /// The message of `Succeeded`.
    pub fn message(&self) -> &str {
        succeeded(&self.object).map_or("", |condition| &condition.message)
    }

    pub fn stdout(&self) -> &str {
        self.status.stdout.as_deref().unwrap_or_default()
    }

    pub fn seconds(&self) -> f64 {
        self.status.duration_seconds.unwrap_or(f64::NAN)
    }

    /// The files of its output, by path, with their sizes.
    pub fn files(&self) -> BTreeMap<&str, i64> {
        let files = self.status.output.iter().flat_map(|output| &output.files);
        files.map(|file| (file.path.as_str(), file.size_bytes)).collect()
    }

    /// The entries of its output that were skipped, with the reasons, in one text.
    pub fn skipped(&self) -> String {
        self.status.output.as_ref().map(|output| output.skipped.join("\n")).unwrap_or_default()
    }

    /// The folder of its output.
    pub fn location(&self) -> PathBuf {
        self.status.output.as_ref().map(|output| output.location.clone().into()).unwrap_or_default()
    }

    /// All kept bytes of its standard output.
    pub fn kept_stdout(&self) -> std::io::Result<Vec<u8>> {
        std::fs::read(self.location().with_file_name("stdout"))
    }
}

/// The details that a person needs when a test fails.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ended with {} ({}), exit code {:?}, signal {:?}, after {} s, stdout {:?}, stderr \
                {:?}, files {:?}, not taken {:?}",
            self.name(),
            self.reason(),
            self.message(),
            self.status.exit_code,
            self.status.signal,
            self.seconds(),
            shortened(self.stdout()),
            shortened(self.status.stderr.as_deref().unwrap_or_default()),
            self.files().into_iter().take(20).collect::<Vec<_>>(),
            shortened(&self.skipped()),
        )
    }
}

fn shortened(text: &str) -> String {
    const MAX: usize = 2000;
    let length = text.chars().count();
    text.chars().skip(length.saturating_sub(MAX)).collect()
}

fn succeeded(object: &AgentRun) -> Option<&Condition> {
    let conditions = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
    conditions.iter().find(|condition| condition.type_ == condition_type::SUCCEEDED)
}
