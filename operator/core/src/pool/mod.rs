//! Decisions about pools: which slots to fill or empty, and what to say.

mod plan;
mod status;
mod validate;

pub use plan::{Blocked, Plan, Seen, SlotSeen, plan};
pub use status::{Counts, invalid_status, next_status, node_entry};
pub use validate::{ValidPool, validate};
