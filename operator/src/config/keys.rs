//! The keys: path, environment variable and reader of each. This is the only place that defines
//! names and allowed values.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use agentvm_crds::{NetworkMode, Profile, ReusePolicy};
use agentvm_hypervisor::libvirt::LibvirtFilter;
use ipnet::IpNet;

use super::settings::ByProfile;
use super::value::{self, FirstUid, MEMORY_MAX_MIB};

/// A key of the configuration.
pub(super) struct Key<T> {
    pub path: &'static str,
    /// The environment variable that sets the key.
    pub variable: Option<&'static str>,
    /// Reads a value. The error names the values that are allowed.
    pub parse: fn(&str) -> Result<T, String>,
}

// The range of a default is the range of its field in crds/.
const WEEK: u32 = 7 * 24 * 3600;
const YEAR: u32 = 365 * 24 * 3600;
/// 1 PiB.
const DISK_MAX_MIB: u32 = 1 << 30;

pub(super) const LIBVIRT_URI: Key<String> =
    Key { path: "libvirt.uri", variable: Some("LIBVIRT_DEFAULT_URI"), parse: value::uri };
pub(super) const LIBVIRT_TIMEOUT: Key<u32> =
    Key { path: "libvirt.connection_timeout", variable: None, parse: value::whole::<1, 600> };
pub(super) const LIBVIRT_FIRST_UID: Key<FirstUid> =
    Key { path: "libvirt.first_uid", variable: None, parse: value::first_uid };

pub(super) const NETWORK_MODE: Key<NetworkMode> = Key {
    path: "vm.network_mode",
    variable: Some("AGENT_VM_NETWORK_MODE"),
    parse: value::network_mode,
};
pub(super) const PROFILE: Key<Profile> =
    Key { path: "vm.default_profile", variable: None, parse: value::profile };

pub(super) const POOL_MIN: Key<u32> = Key {
    path: "pool.min_size",
    variable: Some("AGENT_VM_POOL_MIN_SIZE"),
    parse: value::whole::<0, 1000>,
};
pub(super) const POOL_MAX: Key<u32> = Key {
    path: "pool.max_size",
    variable: Some("AGENT_VM_POOL_MAX_SIZE"),
    parse: value::whole::<1, 1000>,
};
pub(super) const POOL_TTL: Key<u32> =
    Key { path: "pool.ttl_seconds", variable: None, parse: value::whole::<10, YEAR> };
pub(super) const POOL_HEALTH: Key<u32> =
    Key { path: "pool.health_check_interval", variable: None, parse: value::whole::<1, 86_400> };
pub(super) const POOL_REUSE: Key<ReusePolicy> =
    Key { path: "pool.reuse_policy", variable: None, parse: value::reuse_policy };
pub(super) const POOL_MAX_REUSES: Key<u32> =
    Key { path: "pool.max_reuses", variable: None, parse: value::whole::<0, 100_000> };
pub(super) const POOL_QUARANTINE: Key<u32> =
    Key { path: "pool.quarantine_seconds", variable: None, parse: value::whole::<0, WEEK> };

pub(super) const EXEC_TIMEOUT: Key<u32> = Key {
    path: "execution.default_timeout",
    variable: Some("AGENT_VM_EXEC_TIMEOUT"),
    parse: value::whole::<1, WEEK>,
};
pub(super) const EXEC_MAX: Key<u32> =
    Key { path: "execution.max_timeout", variable: None, parse: value::whole::<1, WEEK> };
pub(super) const WORKSPACE: Key<PathBuf> =
    Key { path: "execution.workspace_path", variable: None, parse: value::absolute_path };

/// Narrower than the range of the field: libvirt accepts these values on both cgroup versions.
pub(super) const CPU_SHARES: Key<u32> = Key {
    path: "security.resource_limits.cpu_shares",
    variable: None,
    parse: value::whole::<2, 10_000>,
};
pub(super) const MEMORY_HARD_LIMIT: Key<Option<u32>> = Key {
    path: "security.resource_limits.memory_hard_limit_mib",
    variable: None,
    parse: value::limit::<256, MEMORY_MAX_MIB>,
};

// The ranges of these keys are the ranges of a pool's `limits`.
pub(super) const DISK_BYTES: Key<Option<u64>> = Key {
    path: "security.resource_limits.disk_bytes_per_second",
    variable: None,
    parse: value::rate::<65_536, 1_099_511_627_776>,
};
pub(super) const NETWORK_BYTES: Key<ByProfile<Option<u64>>> = Key {
    path: "security.resource_limits.network_bytes_per_second",
    variable: None,
    parse: value::rate_by_profile::<65_536, 4_000_000_000>,
};
pub(super) const PACKETS: Key<ByProfile<u32>> = Key {
    path: "security.resource_limits.packets_per_second",
    variable: None,
    parse: value::whole_by_profile::<100, 1_000_000>,
};
pub(super) const CONNECTIONS: Key<ByProfile<u32>> = Key {
    path: "security.resource_limits.connections",
    variable: None,
    parse: value::whole_by_profile::<1, 65_536>,
};
pub(super) const PROCESSES: Key<ByProfile<u32>> = Key {
    path: "security.resource_limits.processes",
    variable: None,
    parse: value::whole_by_profile::<16, 1_048_576>,
};

pub(super) const GOLDEN_SETUP: Key<u32> =
    Key { path: "golden.setup_timeout", variable: None, parse: value::whole::<60, WEEK> };

pub(super) const RESOLVERS: Key<Vec<Ipv4Addr>> =
    Key { path: "network.resolvers", variable: None, parse: value::resolvers };
pub(super) const DENY_CIDRS: Key<Vec<IpNet>> =
    Key { path: "network.deny_cidrs", variable: None, parse: value::networks };
pub(super) const ALLOWED_PRIVATE: Key<Vec<IpNet>> =
    Key { path: "network.allowed_private_cidrs", variable: None, parse: value::networks };
pub(super) const ALLOWED_BRIDGES: Key<Vec<String>> =
    Key { path: "network.allowed_bridges", variable: None, parse: value::bridges };
pub(super) const LIBVIRT_FILTER: Key<LibvirtFilter> =
    Key { path: "network.libvirt_filter", variable: None, parse: value::libvirt_filter };

pub(super) const NODE_NAME: Key<String> =
    Key { path: "node.name", variable: None, parse: value::node_name };
pub(super) const NODE_MACHINES: Key<Option<u32>> =
    Key { path: "node.max_machines", variable: None, parse: value::limit::<1, 10_000> };
pub(super) const NODE_MEMORY: Key<u32> =
    Key { path: "node.memory_mib", variable: None, parse: value::whole::<128, MEMORY_MAX_MIB> };
pub(super) const NODE_DISK_LOW: Key<u32> =
    Key { path: "node.disk_low_mib", variable: None, parse: value::whole::<0, DISK_MAX_MIB> };
pub(super) const NODE_DISK_CRITICAL: Key<u32> =
    Key { path: "node.disk_critical_mib", variable: None, parse: value::whole::<0, DISK_MAX_MIB> };
pub(super) const NODE_OUTPUT: Key<Option<u32>> = Key {
    path: "node.output_mib_per_namespace",
    variable: None,
    parse: value::limit::<1, DISK_MAX_MIB>,
};

pub(super) const METRICS_LISTEN: Key<Option<SocketAddr>> =
    Key { path: "metrics.listen", variable: Some("AGENT_VM_METRICS_LISTEN"), parse: value::listen };
