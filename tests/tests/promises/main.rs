//! The promises of agentvm, one file for each, on a real API server. Machines are processes.
//!
//! All of them are one program: it is linked once, and its tests share one control plane. Each test
//! has a namespace there. A test that changes the cluster itself starts a control plane of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as it should be"
)]

mod api_rules;
mod api_status;
mod api_updates;
mod api_writes;
mod awaited;
mod disk;
mod examples;
mod finished_runs;
mod frames;
mod goldens;
mod http_faults;
mod limits;
mod malformed;
mod metrics;
mod network;
mod network_flows;
mod node_faults;
mod nodes;
mod output;
mod pool_resets;
mod pools;
mod queue;
mod resets;
mod restarts;
mod runs;
mod samples;
mod steps;
mod sweep;
mod tenants;
