//! Parts that the tests of several crates share. No program of the product uses this crate.
//!
//! ```text
//!   wait.rs           waits on conditions, with one deadline for all tests
//!   programs.rs       the programs and the guest image under test
//!   scratch.rs        folders that go away with the test process, however it ends
//!   examples.rs       the examples of samples and pages
//!   control_plane.rs  a real API server for a test process (feature `control-plane`)
//!   networks/         an internet and a LAN that are namespaces of this host (feature `networks`)
//! ```
//!
//! The fake hypervisor and the hooks for faults are in `agentvm-hypervisor`, behind its feature
//! `fault-injection`: they use private parts of that crate.
#![allow(
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test ends where something is not as it should be"
)]

#[cfg(feature = "control-plane")]
pub mod control_plane;
pub mod examples;
#[cfg(feature = "networks")]
pub mod networks;
mod programs;
mod scratch;
mod wait;

pub use programs::{agentvm, guest_agent, guest_image, repository};
pub use scratch::{remove_when_we_end, scratch};
pub use wait::{
    PATIENCE, holds_within, holds_within_async, wait_for, wait_until, wait_until_async,
};

/// An error that keeps a test from beginning.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
