//! The border to the API server: the client with its time limits, and the proof of a write.
//!
//! An answer that does not come, or that speaks of a failure, says nothing about a write. Only the
//! live object does.

mod client;
mod write;

pub use client::{TimeLimits, Wire, client, client_across};
pub use write::{NotWritten, WriteError, settle};
