//! Tests on real machines: `agentvm standalone` runs a host, and runs are executed on it.
//!
//! The tests use the product like a person: by the command line and the Kubernetes API.
#![forbid(unsafe_code)]

mod data_dir;
mod holding;
mod host;
mod leftovers;
mod run;
mod scenario;
mod standalone;

pub use agentvm_testing::Error;
pub use data_dir::DataDir;
pub use holding::holding;
pub use host::{Host, PATIENCE};
pub use leftovers::{leftovers, processes};
pub use run::Run;
pub use scenario::{Scenario, on_one_host, own_networks};
pub use standalone::Standalone;

/// Fails a scenario unless a condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!("{}: {}", stringify!($condition), format_args!($($text)+)).into());
        }
    };
}
