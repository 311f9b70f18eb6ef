//! The wire protocol between the host (the operator) and the guest (the agent in a machine).
//!
//! Both sides use this crate, so there is one truth about the bytes. It knows nothing of
//! Kubernetes, libvirt or how a command is run; it never opens a socket itself.
#![forbid(unsafe_code)]

pub mod protocol;
