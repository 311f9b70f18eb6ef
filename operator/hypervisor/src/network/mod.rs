//! The host's side of the machines' network.

pub mod flows;
