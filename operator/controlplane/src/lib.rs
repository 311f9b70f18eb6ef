//! Runs a real Kubernetes API on one host that has no cluster. It starts the unmodified etcd,
//! kube-apiserver and kube-controller-manager as child processes, keeps them running, and ends them
//! in order.
//!
//! ```text
//!  Binaries::find ─► Config ─► ControlPlane::start ─► ready ─► events, client ─► shutdown
//!                               │ certificates, ports, kubeconfig   (prepare)
//!                               │ etcd ∥ kube-apiserver             (children)
//!                               └ /readyz, then kube-controller-manager and the housekeeper
//! ```
//!
//! Everything listens on loopback only, every connection uses mutual TLS, and no child outlives
//! this process, also not after a crash. This crate does not depend on virtual machines or on
//! agentvm's own API types.

#![deny(unsafe_code)] // only `spawner` may use it, and states its reason

mod binaries;
mod certificates;
mod commands;
mod component;
mod config;
mod control_plane;
mod environment;
mod kubeconfig;
mod layout;
mod log_file;
mod machine;
mod ports;
mod prepare;
mod private_files;
mod readiness;
mod restarts;
mod spawner;
mod store;
mod time_limits;

pub use binaries::{Binaries, BinariesError};
pub use component::Component;
pub use config::{Config, Durability};
pub use control_plane::{ControlPlane, StartError};
pub use prepare::PrepareError;
pub use restarts::{ChildEvent, Happened};
pub use store::StoreUsage;
