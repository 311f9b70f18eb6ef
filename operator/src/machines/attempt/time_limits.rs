//! The time limits of an attempt, besides the timeout of its run.

use std::time::Duration;

/// From SIGTERM to SIGKILL in the guest.
pub const GRACE: Duration = Duration::from_secs(5);
/// An agent gets this on top of timeout and grace before the host ends the machine itself.
pub const SLACK: Duration = Duration::from_secs(30);
/// A machine that was running counts as lost when it was silent for so long.
pub const LOST_AFTER: Duration = Duration::from_mins(1);
/// The length of one try to reach the agent.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// A session that was kept open counts as broken when it was silent about EXECUTE for so long. A
/// new session tells more.
pub const KEPT_PATIENCE: Duration = Duration::from_secs(5);
pub const RECONNECT: Duration = Duration::from_millis(200);
/// From SIGTERM to SIGKILL when the operator has to stop: its own time is short.
pub const EVICTED: Duration = Duration::from_secs(3);
/// A DHCP server has this time for a machine whose lease expired while it was parked. A run waits
/// for it.
pub const LEASE: Duration = Duration::from_secs(10);
