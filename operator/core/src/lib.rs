//! Pure decisions: names, validation, plans, a machine's life, status, backoff, calendar.
//!
//! Nothing here is async, opens a socket, reads a clock, or knows kube's client or libvirt. Time is
//! an argument; `clippy.toml` lists the calls that would break this.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

pub mod backoff;
pub mod calendar;
pub mod defaults;
pub mod fair_share;
pub mod globs;
pub mod golden;
pub mod invalid_spec;
pub mod limit_defaults;
pub mod machine;
pub mod names;
pub mod network;
pub mod node;
pub mod pool;
pub mod run;
pub mod status;
pub mod write_proof;
