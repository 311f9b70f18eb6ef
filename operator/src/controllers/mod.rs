//! One controller for each kind, each readable as a sentence: observe, plan (pure), execute, publish once or not at all.
//!
//! No finalizers: what is on the node and whose object is gone is found by UID and removed ([`sweep`]).

mod cache;
mod context;
mod error;
mod events;
mod golden;
mod host;
mod pool;
mod publish;
mod router;
mod run;
mod start;
mod sweep;

pub use context::{Budget, Context, Guarded};
pub use error::Error;
pub use host::HostState;
pub use start::{Operator, OperatorConfig, StartError};
