//! The agentvm operator as a library. `operator/cli` builds the program from it, and
//! `operator/bench` measures it.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

pub mod agent;
pub mod api;
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
pub mod node;
pub mod service;
pub mod standalone;
pub mod version;
