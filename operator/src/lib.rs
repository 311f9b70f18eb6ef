//! The agentvm operator as a library, so that tests can reach all of it; the binary is a line.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod doctor;
pub mod logging;
