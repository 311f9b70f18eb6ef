//! An agent's view of its machine. It is a claim, like everything from a guest: the second line of
//! a proof whose first line is taken from outside.

use agentvm_types::Nonce;
use serde::{Deserialize, Serialize};

/// Two inspections are equal if the machines are in equal states, as far as their agents can see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Inspection {
    /// Given by the last QUIESCE, and held in golden memory since.
    pub golden: Option<Nonce>,
    /// One `NAME<PARENT` for each process outside the kernel, sorted.
    pub processes: Vec<String>,
    /// One `POINT TYPE SOURCE` for each mount, sorted.
    pub mounts: Vec<String>,
}

/// An inspection before its check.
#[derive(Deserialize)]
struct Unchecked {
    #[serde(default)]
    golden: Option<Nonce>,
    #[serde(default)]
    processes: Vec<String>,
    #[serde(default)]
    mounts: Vec<String>,
}

/// An inspection that no agent of ours would send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an inspection has at most {} processes and mounts each, of at most {} bytes each",
    Inspection::MAX_ENTRIES,
    Inspection::MAX_ENTRY
)]
pub struct InspectionError;

impl Inspection {
    /// The largest number of processes, and of mounts.
    pub const MAX_ENTRIES: usize = 256;
    /// Bytes of one process or mount.
    pub const MAX_ENTRY: usize = 256;

    /// Sorts, and cuts entries beyond the limits. An entry with the number of the cut ones takes
    /// their place.
    pub fn new(golden: Option<Nonce>, processes: Vec<String>, mounts: Vec<String>) -> Self {
        Self { golden, processes: bounded(processes), mounts: bounded(mounts) }
    }
}

impl TryFrom<Unchecked> for Inspection {
    type Error = InspectionError;
    fn try_from(
        Unchecked { golden, processes, mounts }: Unchecked,
    ) -> Result<Self, InspectionError> {
        let fits = |list: &[String]| {
            list.len() <= Self::MAX_ENTRIES
                && list.iter().all(|entry| entry.len() <= Self::MAX_ENTRY)
        };
        if !fits(&processes) || !fits(&mounts) {
            return Err(InspectionError);
        }
        Ok(Self { golden, processes, mounts })
    }
}

fn bounded(mut list: Vec<String>) -> Vec<String> {
    for entry in &mut list {
        let mut end = entry.len().min(Inspection::MAX_ENTRY);
        while !entry.is_char_boundary(end) {
            end -= 1;
        }
        entry.truncate(end);
    }
    list.sort_unstable();
    let surplus = list.len().saturating_sub(Inspection::MAX_ENTRIES - 1);
    if surplus > 1 {
        list.truncate(Inspection::MAX_ENTRIES - 1);
        list.push(format!("and {surplus} more"));
    }
    list
}
