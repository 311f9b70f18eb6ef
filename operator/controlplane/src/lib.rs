//! A real Kubernetes API on one host that has none: starts the unmodified etcd, kube-apiserver and
//! kube-controller-manager as child processes, keeps them running, and ends them in order.
//!
//! ```text
//!  Binaries::find ─► Config ─► ControlPlane::start ─► ready ─► events, client ─► shutdown
//!                               │ certificates, ports, kubeconfig   (prepare)
//!                               │ etcd ∥ kube-apiserver             (children)
//!                               └ /readyz, then kube-controller-manager
//! ```
//!
//! Everything listens on loopback only, every connection is mutual TLS, and no child outlives this process,
//! however it ends. This crate knows nothing of virtual machines, nor of agentvm's own API types.

#![deny(unsafe_code)] // `spawner` alone may, and says why

mod binaries;
mod certificates;
mod children;
mod commands;
mod component;
mod config;
mod control_plane;
mod environment;
mod files;
mod kubeconfig;
mod layout;
mod log_file;
mod machine;
mod ports;
mod prepare;
mod readiness;
mod spawner;
pub mod test_support;

pub use binaries::{Binaries, BinariesError};
pub use children::{ChildEvent, Happened};
pub use component::Component;
pub use config::{Config, Durability};
pub use control_plane::{ControlPlane, StartError};
pub use prepare::PrepareError;
