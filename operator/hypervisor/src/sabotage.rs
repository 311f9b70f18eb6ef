//! Sabotage: a reset that does less than it should. The self-test of a tier and tests see whether
//! the proof finds it.

/// The sabotage of a reset, so that the proof has something to find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    #[default]
    None,
    /// The pages stay as the run left them.
    SkipDrop,
    /// Something is written to the disk after it was put back.
    TouchDisk,
    /// QEMU is asked for a snapshot that isn't there.
    WrongSnapshot,
}

impl Sabotage {
    /// The sabotages of a self-test, each with the check that has to find it.
    pub const OF_SELF_TEST: [(Self, &'static str); 2] =
        [(Self::SkipDrop, "memory"), (Self::TouchDisk, "disk")];
}
