//! What an object gets where it says nothing: the operator's configuration, as plain data.

use std::net::Ipv4Addr;

use agentvm_crds::{NetworkMode, Profile, ReusePolicy};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Defaults and limits of this operator. `Default` is what the documentation says without any configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `timeoutSeconds` of a run that names none.
    pub run_seconds: u32,
    /// `maxRunSeconds` of a pool that names none.
    pub max_run_seconds: u32,
    pub pool_min: u32,
    pub pool_max: u32,
    pub ttl_seconds: u32,
    pub health_check_seconds: u32,
    pub reuse_policy: ReusePolicy,
    pub max_reuses: u32,
    pub quarantine_seconds: u32,
    pub network_mode: NetworkMode,
    pub profile: Profile,
    pub cpu_shares: u32,
    /// The largest machine that a golden may ask for, MiB.
    pub memory_hard_limit_mib: Option<u32>,
    pub network: NetworkDefaults,
    pub limits: LimitDefaults,
}

/// Of machines with a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkDefaults {
    /// Whom machines ask for names where their pool says nothing.
    pub resolvers: Vec<Ipv4Addr>,
    /// Addresses of nodes, API server, pods and services, as far as the operator was told: no policy opens them.
    pub deny_cidrs: Vec<IpNet>,
    /// Where this installation's machines are. Whoever knows that another subnet was taken says so here.
    pub machines: Ipv4Net,
    /// The same of those with IPv6; as long as nobody knows whose installation it is, nowhere.
    pub machines_ipv6: Option<Ipv6Net>,
}

/// How much a machine may take where its pool says nothing, by the profile of its golden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitDefaults {
    pub light: Preset,
    pub standard: Preset,
    pub intensive: Preset,
}

/// The limits of one profile. `None`: no limit. None of them has a quota of processor time, which a machine's virtual CPUs bound already,
/// nor a rate of its disk: what is much differs a hundredfold between hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    pub disk_bytes_per_second: Option<u64>,
    pub network_bytes_per_second: Option<u64>,
    pub packets_per_second: u32,
    pub connections: u32,
    pub processes: u32,
}

impl Default for NetworkDefaults {
    fn default() -> Self {
        Self {
            // Whom the host asks, where nobody says; that is nothing to know here.
            resolvers: Vec::new(),
            deny_cidrs: Vec::new(),
            machines: Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 101, 0), 24),
            machines_ipv6: None,
        }
    }
}

impl Default for LimitDefaults {
    fn default() -> Self {
        // In proportion to the processors: 1, 2 and 4.
        let preset = |times: u32| Preset {
            disk_bytes_per_second: None,
            network_bytes_per_second: Some(u64::from(times) << 25),
            packets_per_second: 10_000 * times,
            connections: 256 * times,
            processes: 2048 * times,
        };
        Self { light: preset(1), standard: preset(2), intensive: preset(4) }
    }
}

impl LimitDefaults {
    /// Of machines of this profile. A custom size has the profile that it comes nearest to; where nobody knows yet, it is Standard.
    pub fn of(&self, profile: Profile) -> &Preset {
        match profile {
            Profile::Light => &self.light,
            Profile::Standard | Profile::Custom => &self.standard,
            Profile::Intensive => &self.intensive,
        }
    }
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            run_seconds: 300,
            max_run_seconds: 3600,
            pool_min: 5,
            pool_max: 20,
            ttl_seconds: 3600,
            health_check_seconds: 60,
            reuse_policy: ReusePolicy::VerifiedReset,
            max_reuses: 100,
            quarantine_seconds: 600,
            network_mode: NetworkMode::NatFiltered,
            profile: Profile::Standard,
            cpu_shares: 1024,
            memory_hard_limit_mib: None,
            network: NetworkDefaults::default(),
            limits: LimitDefaults::default(),
        }
    }
}

/// A spec that can't be carried out: where, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct InvalidSpec {
    /// Path of the field, as in `spec.files[2].path`.
    pub path: String,
    pub problem: String,
}

impl InvalidSpec {
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }
}
