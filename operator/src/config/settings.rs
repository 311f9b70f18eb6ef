//! The settings for the rest of the operator: plain typed values with their defaults.
//!
//! Most settings are defaults for fields that an object leaves out. Each comment names the field.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentvm_core::defaults::{Defaults, NetworkDefaults};
use agentvm_core::limit_defaults::{LimitDefaults, LimitPreset};
use agentvm_crds::{NetworkMode, Profile, ReusePolicy};
use agentvm_hypervisor::libvirt::{LibvirtConfig, LibvirtFilter};
use ipnet::IpNet;

use super::HostDefaults;
use super::keys;
use super::resolve::Layers;
use super::value::FirstUid;

const WORKSPACE: &str = "/var/lib/agent-vm/workspace";
/// Reachable from this host only, because metrics are not secret but also not public.
const METRICS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);

const DISK_LOW_MIB: u32 = 2048;
const DISK_CRITICAL_MIB: u32 = 512;
const OUTPUT_MIB: u32 = 50 * 1024;

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub libvirt: LibvirtSettings,
    pub vm: VmSettings,
    pub pool: PoolSettings,
    pub execution: ExecutionSettings,
    pub limits: ResourceLimits,
    pub golden: GoldenSettings,
    pub network: NetworkSettings,
    pub node: NodeSettings,
    pub metrics: MetricsSettings,
}

/// `libvirt.*`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibvirtSettings {
    pub uri: String,
    pub connection_timeout: Duration,
    /// The first user id for machines; `None` if all machines run as QEMU's own user.
    pub first_uid: Option<u32>,
}

/// `vm.*`: defaults for pools and golden snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmSettings {
    /// For a pool without `network.mode`.
    pub network_mode: NetworkMode,
    /// For a golden without `resources.profile`. Never `Custom`.
    pub default_profile: Profile,
}

/// `pool.*`: defaults for pools, and for the pool that `standalone --default-pool` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    pub min_size: u32,
    pub max_size: u32,
    pub ttl_seconds: u32,
    pub health_check_seconds: u32,
    pub reuse_policy: ReusePolicy,
    pub max_reuses: u32,
    pub quarantine_seconds: u32,
}

/// `execution.*`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionSettings {
    /// For a run without `timeoutSeconds`.
    pub default_timeout_seconds: u32,
    /// For a pool without `maxRunSeconds`.
    pub max_timeout_seconds: u32,
    /// The folder for outputs and shares.
    pub workspace_path: PathBuf,
}

/// `security.resource_limits.*`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceLimits {
    /// A machine's CPU weight, for a golden without one.
    pub cpu_shares: u32,
    /// The largest machine that a golden may ask for on this host, MiB.
    pub memory_hard_limit_mib: Option<u32>,
    /// For a pool without this field in its `limits`.
    pub disk_bytes_per_second: Option<u64>,
    pub network_bytes_per_second: ByProfile<Option<u64>>,
    pub packets_per_second: ByProfile<u32>,
    pub connections: ByProfile<u32>,
    pub processes: ByProfile<u32>,
}

/// A limit that differs by profile, unless one value is given for all profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByProfile<T> {
    Each,
    All(T),
}

impl<T> ByProfile<T> {
    fn or(self, each: T) -> T {
        match self {
            Self::Each => each,
            Self::All(one) => one,
        }
    }
}

/// `golden.*`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoldenSettings {
    /// The time of all steps of a setup together.
    pub setup_timeout_seconds: u32,
}

/// `network.*`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSettings {
    /// For a pool without `network.resolver`.
    pub resolvers: Vec<Ipv4Addr>,
    /// The deny list: no pool can open these networks.
    pub deny_cidrs: Vec<IpNet>,
    /// The private networks and the bridges of the host that pools may name.
    pub allowed_private_cidrs: Vec<IpNet>,
    pub allowed_bridges: Vec<String>,
    /// A filter in addition to our own rules.
    pub libvirt_filter: LibvirtFilter,
}

/// `node.*`: this host, and the limits of all its machines together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    pub name: String,
    pub max_machines: Option<u32>,
    pub memory_mib: u32,
    /// Below this, no machine is made and no run is claimed.
    pub disk_low_mib: u32,
    /// Below this, the run ends whose machine takes most.
    pub disk_critical_mib: u32,
    pub output_mib_per_namespace: Option<u32>,
}

/// `metrics.*`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsSettings {
    /// The address of `/metrics`; `None` if it is not served.
    pub listen: Option<SocketAddr>,
    /// A layer set the address. Then a failure to listen is an error.
    pub explicit: bool,
}

impl Settings {
    /// Takes each key once, in the order in which `agentvm config show` prints them.
    pub(super) fn take(from: &mut Layers, host: &HostDefaults, workspace: Option<&Path>) -> Self {
        let settings = Self {
            libvirt: LibvirtSettings {
                uri: from.take(&keys::LIBVIRT_URI, "qemu:///system".to_owned()),
                connection_timeout: Duration::from_secs(
                    from.take(&keys::LIBVIRT_TIMEOUT, 30).into(),
                ),
                first_uid: from
                    .take(&keys::LIBVIRT_FIRST_UID, FirstUid(Some(LibvirtConfig::FIRST_UID)))
                    .0,
            },
            vm: VmSettings {
                network_mode: from.take(&keys::NETWORK_MODE, NetworkMode::NatFiltered),
                default_profile: from.take(&keys::PROFILE, Profile::Standard),
            },
            pool: PoolSettings {
                min_size: from.take(&keys::POOL_MIN, 5),
                max_size: from.take(&keys::POOL_MAX, 20),
                ttl_seconds: from.take(&keys::POOL_TTL, 3600),
                health_check_seconds: from.take(&keys::POOL_HEALTH, 60),
                reuse_policy: from.take(&keys::POOL_REUSE, ReusePolicy::VerifiedReset),
                max_reuses: from.take(&keys::POOL_MAX_REUSES, 100),
                quarantine_seconds: from.take(&keys::POOL_QUARANTINE, 600),
            },
            execution: ExecutionSettings {
                default_timeout_seconds: from.take(&keys::EXEC_TIMEOUT, 300),
                max_timeout_seconds: from.take(&keys::EXEC_MAX, 3600),
                workspace_path: from.take(
                    &keys::WORKSPACE,
                    workspace.map_or_else(|| WORKSPACE.into(), Path::to_path_buf),
                ),
            },
            limits: ResourceLimits {
                cpu_shares: from.take(&keys::CPU_SHARES, 1024),
                memory_hard_limit_mib: from.take(&keys::MEMORY_HARD_LIMIT, None),
                disk_bytes_per_second: from.take(&keys::DISK_BYTES, None),
                network_bytes_per_second: from.take(&keys::NETWORK_BYTES, ByProfile::Each),
                packets_per_second: from.take(&keys::PACKETS, ByProfile::Each),
                connections: from.take(&keys::CONNECTIONS, ByProfile::Each),
                processes: from.take(&keys::PROCESSES, ByProfile::Each),
            },
            golden: GoldenSettings { setup_timeout_seconds: from.take(&keys::GOLDEN_SETUP, 3600) },
            network: NetworkSettings {
                resolvers: from.take(&keys::RESOLVERS, host.resolver.into_iter().collect()),
                deny_cidrs: from.take(&keys::DENY_CIDRS, Vec::new()),
                allowed_private_cidrs: from.take(&keys::ALLOWED_PRIVATE, Vec::new()),
                allowed_bridges: from.take(&keys::ALLOWED_BRIDGES, Vec::new()),
                libvirt_filter: from.take(&keys::LIBVIRT_FILTER, LibvirtFilter::Disabled),
            },
            node: NodeSettings {
                name: from.take(&keys::NODE_NAME, host.node_name()),
                max_machines: from.take(&keys::NODE_MACHINES, None),
                memory_mib: from.take(&keys::NODE_MEMORY, host.machine_memory_mib()),
                disk_low_mib: from.take(&keys::NODE_DISK_LOW, DISK_LOW_MIB),
                disk_critical_mib: from.take(&keys::NODE_DISK_CRITICAL, DISK_CRITICAL_MIB),
                output_mib_per_namespace: from.take(&keys::NODE_OUTPUT, Some(OUTPUT_MIB)),
            },
            metrics: MetricsSettings {
                listen: from.take(&keys::METRICS_LISTEN, Some(METRICS)),
                explicit: from.is_given(&keys::METRICS_LISTEN),
            },
        };
        settings.require_order(from);
        settings
    }

    /// The values for fields that an object leaves out, in the form that the core takes.
    pub fn defaults(&self) -> Defaults {
        Defaults {
            run_seconds: self.execution.default_timeout_seconds,
            max_run_seconds: self.execution.max_timeout_seconds,
            pool_min: self.pool.min_size,
            pool_max: self.pool.max_size,
            ttl_seconds: self.pool.ttl_seconds,
            health_check_seconds: self.pool.health_check_seconds,
            reuse_policy: self.pool.reuse_policy,
            max_reuses: self.pool.max_reuses,
            quarantine_seconds: self.pool.quarantine_seconds,
            network_mode: self.vm.network_mode,
            profile: self.vm.default_profile,
            cpu_shares: self.limits.cpu_shares,
            memory_hard_limit_mib: self.limits.memory_hard_limit_mib,
            setup_seconds: self.golden.setup_timeout_seconds,
            network: NetworkDefaults {
                resolvers: self.network.resolvers.clone(),
                deny_cidrs: self.network.deny_cidrs.clone(),
                allowed_private_cidrs: self.network.allowed_private_cidrs.clone(),
                allowed_bridges: self.network.allowed_bridges.clone(),
                ..NetworkDefaults::default()
            },
            limits: self.limits.by_profile(LimitDefaults::default()),
        }
    }

    fn require_order(&self, layers: &mut Layers) {
        let (pool, execution) = (&self.pool, &self.execution);
        layers.require(pool.min_size <= pool.max_size, keys::POOL_MIN.path, keys::POOL_MAX.path);
        let timeouts = execution.default_timeout_seconds <= execution.max_timeout_seconds;
        layers.require(timeouts, keys::EXEC_TIMEOUT.path, keys::EXEC_MAX.path);
        let marks = self.node.disk_critical_mib <= self.node.disk_low_mib;
        layers.require(marks, keys::NODE_DISK_CRITICAL.path, keys::NODE_DISK_LOW.path);
    }
}

impl ResourceLimits {
    fn by_profile(
        &self,
        LimitDefaults { light, standard, intensive }: LimitDefaults,
    ) -> LimitDefaults {
        let of = |preset: LimitPreset| LimitPreset {
            disk_bytes_per_second: self.disk_bytes_per_second,
            network_bytes_per_second: self
                .network_bytes_per_second
                .or(preset.network_bytes_per_second),
            packets_per_second: self.packets_per_second.or(preset.packets_per_second),
            connections: self.connections.or(preset.connections),
            processes: self.processes.or(preset.processes),
        };
        LimitDefaults { light: of(light), standard: of(standard), intensive: of(intensive) }
    }
}
