//! The parts that one host without a cluster needs beside the operator: a libvirtd that
//! outlives us.
//!
//! ```text
//!   agentvm standalone ──holds──► DIR/lock (node/lock.rs)
//!        │ kill -9 ends it and its control plane, and nothing below:
//!        └─starts─► agentvm __reaper ──► virtlogd, libvirtd ──► QEMU, QEMU, …
//! ```
//!
//! This module does not depend on Kubernetes or on the purpose of the machines.

pub mod libvirtd;
pub mod process;
pub mod reaper;
pub mod run_folder;
