//! The nouns of getting back to the golden state: tiers, proofs, marks, and the steps that each way has.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agentvm_core::names::DomainName;
use serde::{Deserialize, Serialize};

/// How a machine gets to its golden state. The best comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// The same process is brought back: stop, drop private pages, load the device state, continue.
    InPlace,
    /// A fresh process from the private mapping of the golden memory.
    Fresh,
    /// A cold boot from the golden's disks.
    Boot,
}

impl Tier {
    pub const ALL: [Self; 3] = [Self::InPlace, Self::Fresh, Self::Boot];

    /// As the API says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InPlace => "InPlace",
            Self::Fresh => "Fresh",
            Self::Boot => "Boot",
        }
    }

    /// As metrics say it.
    pub fn label(self) -> &'static str {
        match self {
            Self::InPlace => "in_place",
            Self::Fresh => "fresh",
            Self::Boot => "boot",
        }
    }
}

/// The best tier that has passed its self-test here, and what is wrong with the better ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tiers {
    pub best: Tier,
    /// Empty for `InPlace`: nothing is better.
    pub why_not_better: String,
}

/// One part of the proof that a machine is in its golden state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    pub name: String,
    /// `Err` says what was found instead.
    pub result: Result<(), String>,
}

/// What was looked at from outside while the machine stood still. One that lacks a part isn't a proof: see [`Proof::failure`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    pub checks: Vec<Check>,
    /// How long each step took, in order.
    pub steps: Vec<(ResetStep, Duration)>,
}

impl Proof {
    /// The parts that every proof has.
    pub const CHECKS: [&'static str; 4] = ["memory", "disk", "monitor", "process"];

    /// Why this doesn't prove a golden state; `None` when it does.
    pub fn failure(&self) -> Option<String> {
        let missing =
            Self::CHECKS.iter().find(|name| !self.checks.iter().any(|check| check.name == **name));
        if let Some(missing) = missing {
            return Some(format!("{missing}: not checked"));
        }
        self.checks.iter().find_map(|check| {
            check.result.as_ref().err().map(|why| format!("{}: {why}", check.name))
        })
    }

    /// All steps together.
    pub fn took(&self) -> Duration {
        self.steps.iter().map(|(_, took)| *took).sum()
    }
}

/// What was noted of a machine on the host, where no guest can write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Mark {
    /// It may have executed something since it was proven.
    #[default]
    None,
    /// Proven, prepared and never resumed since. `evidence` is the caller's own text.
    Parked { evidence: String },
    /// It failed its proof and is kept for a look. Unix seconds.
    Quarantined { until: i64, why: String },
}

/// What a machine costs its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Proportional set of its process without the golden's file pages: what goes away with it.
    pub unshared_bytes: u64,
    /// Resident set of its process.
    pub resident_bytes: u64,
}

/// Every step of every way, in order: what faults are injected at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Step {
    Capture(CaptureStep),
    Clone(CloneStep),
    Reset(ResetStep),
}

impl Step {
    pub fn all() -> impl Iterator<Item = Self> {
        let captures = CaptureStep::ALL.into_iter().map(Self::Capture);
        let clones = CloneStep::ALL.into_iter().map(Self::Clone);
        captures.chain(clones).chain(ResetStep::ALL.into_iter().map(Self::Reset))
    }
}

/// The steps of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CaptureStep {
    /// Stop the guest's clock.
    Pause,
    /// Put a new overlay on top of the disk.
    Overlay,
    /// Write the device state into the overlay, for resets in place.
    SaveSnapshot,
    /// Write the device state into a file, for fresh processes.
    SaveState,
    /// End QEMU, which gives up memory file and disks.
    Quit,
    /// Point the disks at their final places; make everything root's, read-only and durable.
    Seal,
    /// Digest the content and write down what the golden is.
    Describe,
    /// Rename the folder to its key.
    Publish,
}

impl CaptureStep {
    pub const ALL: [Self; 8] = [
        Self::Pause,
        Self::Overlay,
        Self::SaveSnapshot,
        Self::SaveState,
        Self::Quit,
        Self::Seal,
        Self::Describe,
        Self::Publish,
    ];
}

/// The steps of making a machine in a fresh process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CloneStep {
    /// Overlay, share, token.
    LayOut,
    /// Define and start the process, paused.
    Start,
    /// Load the device state.
    Load,
    /// Note that the machine is whole.
    Ready,
}

impl CloneStep {
    pub const ALL: [Self; 4] = [Self::LayOut, Self::Start, Self::Load, Self::Ready];
}

/// The steps of a reset in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ResetStep {
    /// Take the marks away that say anything good of the machine.
    Enter,
    /// Stop the guest's clock.
    Stop,
    /// Drop the private pages.
    Drop,
    /// Load device state and disk.
    Load,
    /// Empty the share.
    Share,
    /// Look at it from outside.
    Prove,
    /// Write the new incarnation's nonce and token down.
    Record,
    /// Note that the machine is whole.
    Ready,
}

impl ResetStep {
    pub const ALL: [Self; 8] = [
        Self::Enter,
        Self::Stop,
        Self::Drop,
        Self::Load,
        Self::Share,
        Self::Prove,
        Self::Record,
        Self::Ready,
    ];
}

/// What a [`StepHook`] wants to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Go,
    /// Leave everything as it is and never come back, as a killed operator would: the call ends with
    /// [`crate::HvError::OutcomeUnknown`] and cleans up nothing.
    Die,
}

type Hook = dyn Fn(&DomainName, Step) -> Verdict + Send + Sync;

/// Called before each step. For tests: this is where things are killed.
#[derive(Clone, Default)]
pub struct StepHook(Option<Arc<Hook>>);

impl StepHook {
    pub fn new(hook: impl Fn(&DomainName, Step) -> Verdict + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hook)))
    }

    /// What the hook says; without one, go.
    pub fn before(&self, name: &DomainName, step: Step) -> Verdict {
        self.0.as_ref().map_or(Verdict::Go, |hook| hook(name, step))
    }
}

impl fmt::Debug for StepHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepHook({})", if self.0.is_some() { "set" } else { "none" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_that_lacks_a_part_or_failed_in_one_proves_nothing() {
        let check = |name: &str| Check { name: name.to_owned(), result: Ok(()) };
        let whole = Proof { checks: Proof::CHECKS.map(check).to_vec(), steps: vec![] };
        assert_eq!(whole.failure(), None);
        for (at, name) in Proof::CHECKS.into_iter().enumerate() {
            let mut lacking = whole.clone();
            lacking.checks.remove(at);
            assert!(lacking.failure().unwrap().starts_with(name));
            let mut failed = whole.clone();
            failed.checks[at].result = Err("3 pages".to_owned());
            assert_eq!(failed.failure().unwrap(), format!("{name}: 3 pages"));
        }
        assert!(Proof::default().failure().is_some());
    }
}
