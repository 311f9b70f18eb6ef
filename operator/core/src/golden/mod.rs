//! Decisions about golden snapshots: what the recipe is, what to do next, what to say.

mod device_layout;
mod layouts;
mod plan;
mod recipe;
mod status;

pub use device_layout::DeviceLayout;
pub use layouts::{least, needed};
pub use plan::{Local, Plan, plan};
pub use recipe::{Recipe, SourceKind, Step, profile, recipe};
pub use status::{next_status, node_entry};
