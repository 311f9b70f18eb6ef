//! One controller for each kind, each readable as a sentence: observe, plan (pure), execute,
//! publish once or not at all.
//!
//! There are no finalizers: [`sweep`] finds things on the node whose object is gone by UID, and
//! removes them.

mod cache;
mod context;
mod defaults;
mod disk;
mod error;
mod events;
mod failures;
mod golden;
mod host;
mod lines;
mod pool;
mod publish;
mod router;
mod run;
mod start;
mod sweep;
mod turns;
mod write_times;

pub use context::{Context, Guarded};
pub use error::Error;
pub use host::HostState;
pub use start::{Operator, OperatorConfig, StartError};
