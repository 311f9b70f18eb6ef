//! The proof that a machine is in its golden state, taken from outside while it stands still.
//!
//! A guest that was taken over can forge every answer; none of this asks the guest.

pub mod disk;
pub mod memory;
pub mod monitor;
pub mod process;
mod qcow2;

use agentvm_types::report;

use crate::HvError;

/// A thing that cannot be checked is not proven.
pub fn flat(found: Result<Result<(), String>, HvError>) -> Result<(), String> {
    found.map_err(|e| report(&e))?
}
