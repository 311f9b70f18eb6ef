//! The network of machines: their destinations, their attachment, and the rules.
//!
//! Everything here is data and text. `agentvm-hypervisor` makes the bridge and gives the text to
//! nft.

mod denied;
mod families;
mod flow;
mod ledger;
mod mac;
mod nic;
mod policy;
pub mod rules;
mod subnet;
mod validate;

pub use agentvm_crds::Protocol;
pub use agentvm_types::Mac;
pub use families::ipv6;
pub use flow::{Destination, Flow, FlowVerdict, Target, TargetKind};
pub use ledger::{Counted, Ledger};
pub use mac::derive_mac;
pub use nic::{Link, Nic, Wire};
pub use policy::{Allow, DEFAULT_PORTS, LinkLimits, Policy, PortRange};
pub use rules::Table;
pub use subnet::{Subnet, free_address, gateway6, ula};
pub use validate::{bridge, policy};
