//! The connection to libvirt: threads, calls on domains, configuration.

pub mod config;
pub mod domain;
pub mod lanes;
mod reconnect;
pub mod silence;
