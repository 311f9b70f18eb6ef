//! Decisions about golden snapshots: the recipe, the next step, the status.

mod device_layout;
mod key;
mod layouts;
mod plan;
mod recipe;
mod status;
mod turns;

pub use device_layout::DeviceLayout;
pub use key::{KeyFacts, key};
pub use layouts::{least, needed};
pub use plan::{Local, Plan, patience, plan};
pub use recipe::{Recipe, SourceKind, Step, profile, recipe};
pub use status::{News, news, next_status, node_entry};
pub use turns::{Asker, Ticket, Turns};
