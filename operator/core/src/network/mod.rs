//! The network of machines: what each may reach, where it is plugged in, and the rule set that holds it to that.
//!
//! Everything here is data and text. `agentvm-hypervisor` makes the bridge and hands the text to nft.

mod advice;
mod families;
mod flow;
mod ledger;
mod mac;
mod nic;
mod policy;
pub mod rules;
mod subnet;
mod table;
mod validate;

pub use agentvm_crds::Protocol;
pub use families::ipv6;
pub use flow::{Destination, Flow, FlowVerdict, Target, TargetKind};
pub use ledger::{Counted, Ledger};
pub use mac::{Mac, NotAMac};
pub use nic::{Link, Nic, Wire};
pub use policy::{Allow, LinkLimits, Policy, PortRange};
pub use subnet::{Subnet, free_address, gateway6, ula};
pub use table::Table;
pub use validate::{bridge, policy};

use serde::{Deserialize, Serialize};

/// The devices of a machine, frozen when its golden is captured: a state is only loaded into the layout it was saved from.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum Layout {
    /// No network device.
    #[default]
    Isolated,
    /// One virtio network device.
    Nic,
}

impl Layout {
    pub const ALL: [Self; 2] = [Self::Isolated, Self::Nic];

    /// The word in keys, folders and statuses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Isolated => "Isolated",
            Self::Nic => "Nic",
        }
    }

    /// The layout of machines that are connected this way.
    pub fn of(mode: agentvm_crds::NetworkMode) -> Self {
        match mode {
            agentvm_crds::NetworkMode::Isolated => Self::Isolated,
            agentvm_crds::NetworkMode::NatFiltered | agentvm_crds::NetworkMode::Bridge => Self::Nic,
        }
    }
}
