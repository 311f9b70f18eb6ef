//! The device layout of a golden and of its machines: with a network device, or isolated.

use agentvm_crds::NetworkMode;
use serde::{Deserialize, Serialize};

/// The devices of a machine. They are frozen when its golden is captured: a state can only be
/// loaded into the layout that it was saved from.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum DeviceLayout {
    /// No network device.
    #[default]
    Isolated,
    /// One virtio network device.
    Nic,
}

impl DeviceLayout {
    pub const ALL: [Self; 2] = [Self::Isolated, Self::Nic];

    /// The word in keys, folders and statuses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Isolated => "Isolated",
            Self::Nic => "Nic",
        }
    }

    /// The layout of machines that are connected this way.
    pub fn of(mode: NetworkMode) -> Self {
        match mode {
            NetworkMode::Isolated => Self::Isolated,
            NetworkMode::NatFiltered | NetworkMode::Bridge => Self::Nic,
        }
    }
}
