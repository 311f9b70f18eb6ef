//! Foreign networks for tests, made of namespaces of this host. They need root.
#![allow(
    clippy::unwrap_used,
    clippy::new_without_default,
    missing_debug_implementations,
    reason = "a test ends where something is not as it should be; a new one makes a namespace"
)]

pub mod internet;
pub mod lan;
