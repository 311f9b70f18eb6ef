//! The steps of a capture, a creation and a reset, in the order in which they happen.

use serde::{Deserialize, Serialize};

/// Every step of a capture, a creation or a reset, in order. Tests inject faults before each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Step {
    Capture(CaptureStep),
    Create(CreateStep),
    Reset(ResetStep),
}

impl Step {
    pub fn all() -> impl Iterator<Item = Self> {
        let captures = CaptureStep::ALL.into_iter().map(Self::Capture);
        let creations = CreateStep::ALL.into_iter().map(Self::Create);
        captures.chain(creations).chain(ResetStep::ALL.into_iter().map(Self::Reset))
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
pub enum CreateStep {
    /// Overlay, share, token.
    LayOut,
    /// Define and start the process, paused.
    Start,
    /// Load the device state.
    Load,
    /// Note that the machine is whole.
    Ready,
}

impl CreateStep {
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
