//! Shares: the files that a machine gets, and the files that it leaves.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use agentvm_core::names::DomainName;

use crate::HvError;

/// The file exchange with a machine. The host does not trust anything that a guest wrote.
#[async_trait::async_trait]
pub trait ShareApi: Send + Sync + Debug + 'static {
    /// Puts files into the machine's `input` before the machine runs. They replace all that was
    /// there.
    async fn put_input(&self, name: &DomainName, files: Vec<InputFile>) -> Result<(), HvError>;

    /// Copies the files that a guest left in `output` into the directory `into`. The directory is
    /// created; one that exists is replaced. Nothing in `output` is trusted. An error is one of the
    /// host: it says nothing about the files, and `into` is empty or absent after it. A caller that
    /// drops the future ends the copy.
    async fn collect(
        &self,
        name: &DomainName,
        spec: &CollectSpec,
        into: &Path,
    ) -> Result<Collected, HvError>;
}

/// A file for `input`. Its parent folders are made.
#[derive(Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Relative and validated: it has no `..` and is not absolute.
    pub path: String,
    /// Permission bits, for example 0o644.
    pub mode: u32,
    pub content: Vec<u8>,
}

impl Debug for InputFile {
    /// Omits the content: it may be large, or private.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InputFile({:?}, {:o}, {} bytes)", self.path, self.mode, self.content.len())
    }
}

/// The files to take from `output`, and their limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectSpec {
    /// Globs of paths relative to `output`, with the grammar of `agentvm_core::globs`.
    pub include: Vec<String>,
    /// Bytes of content, over all files.
    pub max_bytes: u64,
    pub max_files: usize,
    /// Entries that are looked at, skipped ones included. This ends the walk over a million files.
    pub max_entries: usize,
}

impl CollectSpec {
    /// The time that a copy may take. It follows the limits, so a larger output may take longer.
    pub fn max_time(&self) -> Duration {
        const LEAST: Duration = Duration::from_mins(1);
        const BYTES_PER_SECOND: u64 = 8 << 20;
        const ENTRIES_PER_SECOND: usize = 2000;
        let copy = self.max_bytes / BYTES_PER_SECOND;
        let walk = self.max_entries / ENTRIES_PER_SECOND;
        LEAST + Duration::from_secs(copy.saturating_add(walk as u64).min(3600))
    }
}

/// A file that was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectedFile {
    pub path: String,
    pub size_bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
    pub executable: bool,
}

/// An entry that was not copied, and the reason (a link, a device, a name that isn't UTF-8, …).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedEntry {
    /// Lossy where the name isn't UTF-8.
    pub path: String,
    pub why: String,
}

/// The result of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Sorted by path.
    pub files: Vec<CollectedFile>,
    /// Bounded; `skipped_total` counts all.
    pub skipped: Vec<SkippedEntry>,
    pub skipped_total: u64,
    /// The limit that the output exceeds. The copy ends there.
    pub too_large: Option<String>,
}
