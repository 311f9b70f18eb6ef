//! What `agentvm doctor` says: observes the host at the edge (`observe`), judges it in pure code (`judge`), says how to mend it.
//!
//! Changes nothing on the host beyond a probe file that it removes again.

mod finding;
mod judge;
pub mod observe;
mod observed;
mod report;

pub use finding::{Finding, Level, can_run};
pub use observed::Observed;
pub use report::{json, text};

/// Looks at the host and judges it. Takes up to a few seconds.
pub fn findings(places: &observe::Places) -> Vec<Finding> {
    judge::all(&observe::host(places))
}
