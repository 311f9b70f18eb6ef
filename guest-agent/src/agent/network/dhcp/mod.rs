//! An address that a DHCP server gives: asked for, renewed, given up when its time is over.
//!
//! ```text
//!   message.rs      questions and answers, as bytes
//!   lease_terms.rs  the checked offer of a server, with the time of its renewal
//!   client.rs       the next step, as a table of states
//!   tenant.rs       the socket and the clock
//! ```

mod client;
mod lease_terms;
mod message;
mod tenant;
#[cfg(test)]
mod tests;

pub use lease_terms::Terms;
pub use tenant::{Tenant, Turn};
