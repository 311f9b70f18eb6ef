//! The grace periods of an operator that is told to stop.

use std::time::Duration;

/// The time that current runs get to end under `agentvm operator`. A pod has 30 s in all by
/// default.
pub const POD_GRACE: Duration = Duration::from_secs(20);
/// The time that current runs get to end under `agentvm standalone`, and after them the machines.
/// Together with all other steps it stays below 20 s.
pub const HOST_GRACE: Duration = Duration::from_secs(10);
pub const LIBVIRTD: Duration = Duration::from_secs(6);
pub const CONTROL_PLANE: Duration = Duration::from_secs(5);
