//! An address that a DHCP server gives: asked for, renewed, given up when its time is over.
//!
//! ```text
//!   message.rs   questions and answers, as bytes
//!   terms.rs     what a server offers, looked at: any bytes may have come
//!   client.rs    what to do next, as a table of states
//!   tenant.rs    the socket and the clock
//! ```

mod client;
mod message;
mod tenant;
mod terms;
#[cfg(test)]
mod tests;

pub use tenant::{Tenant, Turn};
pub use terms::Terms;
