//! Tests on real machines: a host that `agentvm standalone` runs, and a way to have runs executed on it.
//!
//! Uses the product as a person does: the program's command line, and the Kubernetes API.
#![forbid(unsafe_code)]

mod data_dir;
mod holding;
mod host;
mod leftovers;
mod program;
mod run;
mod scenario;
mod standalone;

pub use data_dir::DataDir;
pub use holding::holding;
pub use host::{Host, PATIENCE};
pub use leftovers::{leftovers, processes};
pub use program::{agentvm, guest_image};
pub use run::Run;
pub use scenario::{Scenario, on_one_host};
pub use standalone::Standalone;

/// Why a test can't go on.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Fails a scenario unless something holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!("{}: {}", stringify!($condition), format_args!($($text)+)).into());
        }
    };
}
