//! The agentvm operator as a library, so that tests can reach all of it; the binary is a line.
#![forbid(unsafe_code)]

pub mod agent;
pub mod bench;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controllers;
pub mod doctor;
pub mod failure;
pub mod goldens;
pub mod guest_image;
pub mod logging;
pub mod machines;
pub mod metrics;
pub mod network;
pub mod standalone;
