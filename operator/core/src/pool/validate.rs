//! From a pool's spec to numbers that make sense.

use agentvm_crds::{AgentVMPoolSpec, LimitsSpec, NetworkMode, NetworkSpec, Profile, ReusePolicy};
use agentvm_types::MachineLimits;

use crate::defaults::Defaults;
use crate::invalid_spec::InvalidSpec;
use crate::limit_defaults::LimitPreset;
use crate::network::{self, Policy};

/// A pool with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidPool {
    pub golden: String,
    pub min: u32,
    pub max: u32,
    pub ttl_seconds: u32,
    pub health_check_seconds: u32,
    pub max_run_seconds: u32,
    pub reuse_policy: ReusePolicy,
    /// Resets in a row of one process.
    pub max_reuses: u32,
    pub quarantine_seconds: u32,
    pub network_mode: NetworkMode,
    /// With mode `Bridge`, and only then.
    pub bridge: Option<String>,
    /// Beside IPv4; with mode `NatFiltered`, and only then.
    pub ipv6: bool,
    /// The reachable destinations of its machines.
    pub(super) policy: Policy,
    pub limits: MachineLimits,
}

impl ValidPool {
    /// The pool while it may have only so many machines: it is a smaller one for the time.
    #[must_use]
    pub fn at_most(&self, machines: u32) -> Self {
        Self { min: self.min.min(machines), max: self.max.min(machines), ..self.clone() }
    }

    /// The reachable destinations of its machines, from this generation of the spec.
    pub fn policy(&self, generation: i64) -> Policy {
        Policy { generation, ..self.policy.clone() }
    }
}

/// Fills in defaults, and refuses impossible values. `profile` is the profile of its golden
/// ([`crate::golden::profile`]).
pub fn validate(
    spec: &AgentVMPoolSpec,
    defaults: &Defaults,
    profile: Profile,
) -> Result<ValidPool, InvalidSpec> {
    let warm = spec.warm.as_ref();
    let asked_max = warm.and_then(|w| w.max);
    let asked_min = warm.and_then(|w| w.min);
    let max = number("spec.warm.max", asked_max, defaults.pool_max, 1)?;
    let min = match asked_min {
        // A `max` below the operator's default `min` is enough: the default gives way.
        None => defaults.pool_min.min(max),
        some => number("spec.warm.min", some, defaults.pool_min, 0)?,
    };
    // And the same the other way round.
    let max = if asked_max.is_none() { max.max(min) } else { max };
    if min > max {
        return Err(InvalidSpec::new(
            "spec.warm.min",
            format!("must not be above max: {min} > {max}"),
        ));
    }
    let network = spec.network.as_ref();
    let network_mode = network_mode(network, defaults);
    Ok(ValidPool {
        golden: spec.golden_snapshot_ref.name.clone(),
        min,
        max,
        ttl_seconds: number("spec.ttlSeconds", spec.ttl_seconds, defaults.ttl_seconds, 1)?,
        health_check_seconds: number(
            "spec.healthCheckSeconds",
            spec.health_check_seconds,
            defaults.health_check_seconds,
            1,
        )?,
        max_run_seconds: number(
            "spec.maxRunSeconds",
            spec.max_run_seconds,
            defaults.max_run_seconds,
            1,
        )?,
        reuse_policy: spec.reuse_policy.unwrap_or(defaults.reuse_policy),
        max_reuses: number("spec.maxReuses", spec.max_reuses, defaults.max_reuses, 0)?,
        quarantine_seconds: number(
            "spec.quarantineSeconds",
            spec.quarantine_seconds,
            defaults.quarantine_seconds,
            0,
        )?,
        network_mode,
        bridge: network::bridge(network, network_mode, &defaults.network)?,
        ipv6: network::ipv6(network, network_mode)?,
        policy: network::policy(network, spec.limits.as_ref(), 0, defaults, profile)?,
        limits: host_limits(spec.limits.as_ref(), defaults.limits.of(profile))?,
    })
}

/// The attachment of a pool's machines. It decides about their golden too, before the rest of the
/// pool is valid.
pub fn network_mode(network: Option<&NetworkSpec>, defaults: &Defaults) -> NetworkMode {
    network.and_then(|network| network.mode).unwrap_or(defaults.network_mode)
}

fn host_limits(
    limits: Option<&LimitsSpec>,
    preset: &LimitPreset,
) -> Result<MachineLimits, InvalidSpec> {
    let quota = limits.and_then(|limits| limits.cpu_quota_percent);
    let disk = limits.and_then(|limits| limits.disk_bytes_per_second);
    let processes = limits.and_then(|limits| limits.processes);
    Ok(MachineLimits {
        cpu_quota_percent: quota
            .map(|_| number("spec.limits.cpuQuotaPercent", quota, 0, 1))
            .transpose()?,
        disk_bytes_per_second: bytes("spec.limits.diskBytesPerSecond", disk, 1 << 40)?
            .or(preset.disk_bytes_per_second),
        processes: number("spec.limits.processes", processes, preset.processes, 16)?,
    })
}

/// A rate in bytes: too small a one would stop a machine, not slow it down.
pub(crate) fn bytes(path: &str, asked: Option<i64>, most: u64) -> Result<Option<u64>, InvalidSpec> {
    const LEAST: u64 = 64 << 10;
    let Some(value) = asked else { return Ok(None) };
    let rate = u64::try_from(value).ok().filter(|rate| (LEAST..=most).contains(rate));
    rate.map(Some)
        .ok_or_else(|| InvalidSpec::new(path, format!("must be {LEAST} to {most}, is {value}")))
}

fn number(path: &str, value: Option<i32>, default: u32, least: u32) -> Result<u32, InvalidSpec> {
    match value {
        None => Ok(default),
        Some(value) => u32::try_from(value)
            .ok()
            .filter(|v| *v >= least)
            .ok_or_else(|| InvalidSpec::new(path, format!("must be at least {least}, is {value}"))),
    }
}

#[cfg(test)]
mod tests {
    use agentvm_crds::Warm;

    use super::*;

    fn spec(min: Option<i32>, max: Option<i32>) -> AgentVMPoolSpec {
        AgentVMPoolSpec { warm: Some(Warm { min, max }), ..AgentVMPoolSpec::of("g") }
    }

    #[test]
    fn defaults_give_way_to_what_was_asked_for() {
        let of = |min, max| {
            validate(&spec(min, max), &Defaults::default(), Profile::Standard)
                .map(|p| (p.min, p.max))
        };
        assert_eq!(of(None, None), Ok((5, 20)));
        assert_eq!(of(None, Some(2)), Ok((2, 2)));
        assert_eq!(of(Some(30), None), Ok((30, 30)));
        assert_eq!(of(Some(3), Some(2)).unwrap_err().path, "spec.warm.min");
        assert_eq!(of(Some(-1), None).unwrap_err().path, "spec.warm.min");
        assert_eq!(of(None, Some(0)).unwrap_err().path, "spec.warm.max");
        let negative = AgentVMPoolSpec { ttl_seconds: Some(-1), ..spec(None, None) };
        assert_eq!(
            validate(&negative, &Defaults::default(), Profile::Standard).unwrap_err().path,
            "spec.ttlSeconds"
        );
    }

    #[test]
    fn resets_have_the_operators_defaults_and_may_be_switched_off() {
        let of = |spec: &AgentVMPoolSpec| {
            validate(spec, &Defaults::default(), Profile::Standard)
                .map(|p| (p.reuse_policy, p.max_reuses, p.quarantine_seconds))
        };
        assert_eq!(of(&spec(None, None)), Ok((ReusePolicy::VerifiedReset, 100, 600)));
        let off = AgentVMPoolSpec {
            reuse_policy: Some(ReusePolicy::Never),
            max_reuses: Some(0),
            quarantine_seconds: Some(0),
            ..spec(None, None)
        };
        assert_eq!(of(&off), Ok((ReusePolicy::Never, 0, 0)));
        let negative = AgentVMPoolSpec { quarantine_seconds: Some(-1), ..spec(None, None) };
        assert_eq!(of(&negative).unwrap_err().path, "spec.quarantineSeconds");
    }

    #[test]
    fn a_network_and_limits_are_checked_with_the_rest() {
        let of = |spec: &AgentVMPoolSpec| validate(spec, &Defaults::default(), Profile::Standard);
        let network = |mode| Some(NetworkSpec { mode: Some(mode), ..NetworkSpec::default() });
        let bridge = AgentVMPoolSpec { network: network(NetworkMode::Bridge), ..spec(None, None) };
        assert_eq!(of(&bridge).unwrap_err().path, "spec.network.bridge");
        let slow = LimitsSpec { disk_bytes_per_second: Some(1), ..LimitsSpec::default() };
        let slow = AgentVMPoolSpec { limits: Some(slow), ..spec(None, None) };
        assert_eq!(of(&slow).unwrap_err().path, "spec.limits.diskBytesPerSecond");
        let limits = LimitsSpec {
            cpu_quota_percent: Some(50),
            processes: Some(64),
            ..LimitsSpec::default()
        };
        let limited = of(&AgentVMPoolSpec { limits: Some(limits), ..spec(None, None) }).unwrap();
        assert_eq!((limited.limits.cpu_quota_percent, limited.limits.processes), (Some(50), 64));
        assert_eq!(limited.policy(3).generation, 3);
        assert_eq!(
            of(&spec(None, None)).unwrap().limits,
            MachineLimits { processes: 4096, ..MachineLimits::default() }
        );
    }

    #[test]
    fn what_a_pool_leaves_open_is_its_goldens_profiles() {
        let some = LimitsSpec { connections: Some(300), ..LimitsSpec::default() };
        let spec = AgentVMPoolSpec { limits: Some(some), ..spec(None, None) };
        let of = |profile| {
            let pool = validate(&spec, &Defaults::default(), profile).unwrap();
            let link = pool.policy.limits;
            (
                link.bytes_per_second,
                link.packets_per_second,
                link.connections,
                pool.limits.processes,
            )
        };
        assert_eq!(of(Profile::Light), (Some(32 << 20), 10_000, 300, 2048));
        assert_eq!(of(Profile::Standard), (Some(64 << 20), 20_000, 300, 4096));
        assert_eq!(of(Profile::Intensive), (Some(128 << 20), 40_000, 300, 8192));
    }
}
