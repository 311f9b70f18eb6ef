//! Values of fields that an object leaves out: the operator's configuration, as plain data.

use std::net::Ipv4Addr;

use agentvm_crds::{NetworkMode, Profile, ReusePolicy};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::limit_defaults::LimitDefaults;

/// Defaults and limits of this operator. `Default` gives the documented values without any
/// configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `timeoutSeconds` of a run without one.
    pub run_seconds: u32,
    /// `maxRunSeconds` of a pool without one.
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
    /// The time of all steps of a golden's setup together.
    pub setup_seconds: u32,
    pub network: NetworkDefaults,
    pub limits: LimitDefaults,
}

/// The limits of machines with a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkDefaults {
    /// DNS servers of machines whose pool names none.
    pub resolvers: Vec<Ipv4Addr>,
    /// The known addresses of nodes, API server, pods and services. No policy opens them.
    pub deny_cidrs: Vec<IpNet>,
    /// The private networks that pools may name.
    pub allowed_private_cidrs: Vec<IpNet>,
    /// The bridges of the host that pools may name.
    pub allowed_bridges: Vec<String>,
    /// The subnet of this installation's machines. The host may have taken another one; the
    /// operator puts it here when it knows.
    pub machines: Ipv4Net,
    /// Their IPv6 subnet; `None` as long as the installation is not known.
    pub machines_ipv6: Option<Ipv6Net>,
}

impl Default for NetworkDefaults {
    fn default() -> Self {
        Self {
            // By default machines ask the servers of the host, and this crate does not know those.
            resolvers: Vec::new(),
            deny_cidrs: Vec::new(),
            allowed_private_cidrs: Vec::new(),
            allowed_bridges: Vec::new(),
            machines: Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 101, 0), 24),
            machines_ipv6: None,
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
            setup_seconds: 3600,
            network: NetworkDefaults::default(),
            limits: LimitDefaults::default(),
        }
    }
}
