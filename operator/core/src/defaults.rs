//! What an object gets where it says nothing: the operator's configuration, as plain data.

use agentvm_crds::{NetworkMode, Profile, ReusePolicy};

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
