//! The times from SIGTERM to SIGKILL of the control plane's programs.

use std::time::Duration;

/// The longest wait for the API server. It has no data outside of etcd, and its graceful end can
/// take a minute.
pub const API_SERVER_GRACE: Duration = Duration::from_secs(2);
pub const CONTROLLER_MANAGER_GRACE: Duration = Duration::from_secs(1);
/// A fast shutdown also gives etcd the time to close its files.
pub const LEAST_ETCD_GRACE: Duration = Duration::from_secs(2);
