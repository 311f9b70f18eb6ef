//! What runs try with their network: from the flows that the host logs to log lines, Events, metrics and the run's status.
//!
//! ```text
//! host: flows ─► watch ─► the book of the run that has the machine ─► log lines, an Event soon after
//!                                      │ closed with the attempt
//!                                      └─► status.network: what the rules counted, and the first destinations
//! ```
//! Nothing waits for it: a run is never slower for what is written about it.

mod books;
mod lines;
mod watch;

pub use books::{Books, News, Owner};
pub use watch::watch;
