//! `agentvm doctor`: looks at the host at the edge (`observe`), judges it in pure code (`checks`),
//! and says how to repair it.
//!
//! Leaves the host unchanged. One check writes a probe file, and removes it again.

mod checks;
mod finding;
pub mod observe;
mod observed;
mod report;

pub use finding::{Finding, Level, can_run};
pub use observed::Observed;
pub use report::{json, text};

/// Looks at the host and judges it. Takes up to a few seconds.
pub fn findings(places: &observe::Places) -> Vec<Finding> {
    checks::all(&observe::host(places))
}
