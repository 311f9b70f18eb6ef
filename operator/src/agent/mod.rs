//! The host's part of a conversation with an agent. The protocol's part is the client of the
//! guest-agent crate.
//!
//! ```text
//!   reach, inspect, wake   reach.rs        from a machine's name to a session
//!   rehydrate, quiesce     identity.rs     a machine's identity: given and taken away
//!   lease                  lease.rs        the agent names its address, the host checks it
//!   program, wire_run_as   program.rs      EXECUTE, with the host's time and randomness
//!   matches_golden         inspection.rs   the agent's view of its machine against the golden's
//!   fresh_nonce            random.rs       names and entropy, from the kernel's randomness
//! ```

mod error;
mod identity;
mod inspection;
mod lease;
mod program;
mod random;
mod reach;

use std::time::Duration;

use agentvm_guest_agent::client::Client;
use agentvm_hypervisor::Channel;
use jiff::Timestamp;

pub use error::{SessionError, WakeError};
pub use identity::{quiesce, rehydrate};
pub use inspection::{matches_captured, matches_golden, unused};
pub use lease::{Unleased, lease, lease_message};
pub use program::{program, wire_run_as};
pub use random::fresh_nonce;
pub use reach::{inspect, reach, wake};

/// A session with the agent of a machine.
pub type Session = Client<Channel>;

/// A duration in the form that the protocol uses.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A time in the form that the protocol uses.
fn unix_nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}
