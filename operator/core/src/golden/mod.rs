//! Decisions about golden snapshots: what the recipe is, what to do next, what to say.

mod plan;
mod recipe;
mod status;

pub use plan::{Local, Plan, plan};
pub use recipe::{MachineSize, Recipe, SourceKind, Step, recipe};
pub use status::{next_status, node_entry};

/// The device layout without a network device: the only one so far.
pub const LAYOUT_ISOLATED: &str = "Isolated";
