//! The wire protocol between the host (the operator) and the guest (the agent in a machine).
//!
//! Both sides use this crate, so there is one truth about the bytes. It knows nothing of Kubernetes
//! and libvirt, and it never opens a socket itself. The feature `client` adds the host's side of a
//! session; the agent is built without it.
#![forbid(unsafe_code)]

#[cfg(feature = "client")]
pub mod client;
pub mod protocol;
