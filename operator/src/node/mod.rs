//! The node: its id, the sole use of its state folder, and its Lease.
//!
//! ```text
//!   lock.rs     no other process uses the folder
//!   id.rs       the id in the folder
//!   acquire.rs  the Lease of the node's name, or who has it
//!   keeper.rs   renews it, and looks at the others
//!   fence.rs    ends attempts before others may run them
//!   lease.rs    the object
//!   cluster.rs  the cluster that it serves
//!   marker.rs   the folders that it may empty
//! ```
//!
//! `agentvm_core::node` has the times and the decisions.

pub mod acquire;
pub mod cluster;
pub mod fence;
pub mod id;
pub mod keeper;
pub mod lease;
pub mod lock;
pub mod marker;

use std::time::Duration;

use agentvm_core::node::LeaseTimes;
use agentvm_types::{NodeId, NodeName};
use k8s_openapi::api::coordination::v1::Lease;

use crate::agent::{SessionError, fresh_nonce};

/// A node, and the process that works for it.
#[derive(Clone, Debug)]
pub struct Node {
    pub id: NodeId,
    /// For people, and the name of its Lease.
    pub name: NodeName,
    /// The name of the host.
    pub host: String,
    /// The id of this boot of the host.
    pub boot: String,
    /// The id of this process.
    pub process: String,
    pub lease: LeaseTimes,
    pub lease_namespace: String,
}

/// A Lease that this process holds.
#[derive(Clone, Debug)]
pub struct Held {
    pub lease: Lease,
    /// When the last renewal that succeeded was sent, on [`crate::clock::Clock::uptime`].
    pub renewed: Duration,
}

impl Node {
    /// This process on this host.
    pub fn here(id: NodeId, name: NodeName, lease: LeaseTimes) -> Result<Self, SessionError> {
        // Without a boot id each start counts as one after a boot, which only takes longer.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let process = fresh_nonce()?.to_string();
        Ok(Self {
            id,
            name,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot: boot.map_or_else(|_| process.clone(), |boot| boot.trim().to_owned()),
            process,
            lease,
            lease_namespace: lease::NAMESPACE.to_owned(),
        })
    }
}
