//! Decisions about nodes: who may have a node's Lease, how long it counts, and which nodes are
//! gone.
//!
//! Times are durations on the caller's own monotonic clock. The clocks of two hosts are never
//! compared: a node judges another one by the changes that it saw itself.

mod acquire;
mod peers;
mod times;

pub use acquire::{Acquire, Me, Seen, acquire};
pub use peers::{Nodes, Peers};
pub use times::{LeaseTimes, Standing};
