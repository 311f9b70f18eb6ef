//! The proof that a machine is in its golden state, taken from outside while it stands still.
//!
//! A guest that was taken over can forge whatever it is asked; none of this asks it.

pub mod disk;
pub mod memory;
pub mod process;
mod qcow2;

use crate::HvError;

/// What can't be looked at isn't proven.
pub fn flat(found: Result<Result<(), String>, HvError>) -> Result<(), String> {
    found.map_err(|e| e.with_cause())?
}
