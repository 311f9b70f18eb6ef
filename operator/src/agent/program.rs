//! The parts of EXECUTE that all programs share.

use agentvm_crds::RunAs;
use agentvm_guest_agent::protocol::{self, Execute, Nonce};
use jiff::Timestamp;

use super::{SessionError, random::entropy, unix_nanos};

/// A program for a machine that holds `nonce`. The machine may have been parked for long, so
/// EXECUTE brings the time and fresh randomness again.
pub fn program(nonce: Nonce, argv: Vec<String>, now: Timestamp) -> Result<Execute, SessionError> {
    Ok(Execute::new(nonce, argv, unix_nanos(now), entropy()?))
}

/// The user of a run, in the form that the agent understands.
pub fn wire_run_as(run_as: RunAs) -> protocol::RunAs {
    match run_as {
        RunAs::Agent => protocol::RunAs::Agent,
        RunAs::Root => protocol::RunAs::Root,
    }
}
