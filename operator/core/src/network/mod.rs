//! The network of machines: their destinations, their attachment, and the rules.
//!
//! Everything here is data and text. `agentvm-hypervisor` makes the bridge and gives the text to
//! nft.

mod denied;
mod event_pacing;
mod families;
mod flow;
mod flow_record;
mod free_networks;
mod mac;
mod nic;
mod policy;
pub mod rules;
mod subnet;
mod validate;

pub use agentvm_crds::Protocol;
pub use agentvm_types::Mac;
pub use event_pacing::EventPacing;
pub use families::ipv6;
pub use flow::{Destination, Flow, FlowVerdict, Target, TargetKind};
pub use flow_record::{Counted, FlowRecord};
pub use free_networks::{
    ALL_TAKEN, FIRST_BRIDGE, MachineNetwork, SUBNET_PREFIX, Taken, free_networks,
};
pub use mac::derive_mac;
pub use nic::{Link, Nic, Wire};
pub use policy::{
    Allow, DEFAULT_PORTS, LinkLimits, NODE_ELEMENTS, POOL_ELEMENTS, Policy, PortRange,
    check_node_elements,
};
pub use rules::Table;
pub use subnet::{Subnet, free_address, gateway6, ula};
pub use validate::{bridge, is_interface, policy};
