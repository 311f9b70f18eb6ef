//! One controller for each kind, each readable as a sentence: observe, plan (pure), execute,
//! publish once or not at all.
//!
//! No finalizers: what is on the node and whose object is gone is found by UID and removed
//! ([`sweep`]).

mod cache;
mod context;
mod defaults;
mod error;
mod events;
mod failures;
mod golden;
mod host;
mod pool;
mod publish;
mod router;
mod run;
mod start;
mod sweep;
mod write_times;

pub use context::{Context, Guarded};
pub use error::Error;
pub use host::HostState;
pub use start::{Operator, OperatorConfig, StartError};
