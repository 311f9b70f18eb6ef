//! The limits in a pool's status: those of its machines, with every default filled in.

use agentvm_crds::{NetworkMode, PoolLimits};

use super::ValidPool;

/// The limits of a machine of this pool. Network limits appear only where there is a network, and
/// where the rules count.
pub fn of(want: &ValidPool) -> PoolLimits {
    let (host, link) = (want.limits, want.policy.limits);
    let has_link = want.network_mode != NetworkMode::Isolated;
    // The rules do not count connections of bridged machines.
    let is_routed = want.network_mode == NetworkMode::NatFiltered;
    PoolLimits {
        cpu_quota_percent: host.cpu_quota_percent.map(int),
        disk_bytes_per_second: host.disk_bytes_per_second.map(long),
        network_bytes_per_second: link.bytes_per_second.filter(|_| has_link).map(long),
        packets_per_second: has_link.then(|| int(link.packets_per_second)),
        connections: is_routed.then(|| int(link.connections)),
        processes: int(host.processes),
    }
}

fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn long(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use agentvm_crds::{AgentVMPoolSpec, LimitsSpec, NetworkSpec, Profile};
    use serde_json::{Value, json};

    use super::*;
    use crate::defaults::Defaults;
    use crate::limit_defaults::{LimitDefaults, LimitPreset};
    use crate::pool::validate;

    fn said(
        mode: NetworkMode,
        limits: Option<LimitsSpec>,
        defaults: &Defaults,
        profile: Profile,
    ) -> Value {
        let bridge = (mode == NetworkMode::Bridge).then(|| "br0".to_owned());
        let spec = AgentVMPoolSpec {
            network: Some(NetworkSpec { mode: Some(mode), bridge, ..NetworkSpec::default() }),
            limits,
            ..AgentVMPoolSpec::of("g")
        };
        let mut defaults = defaults.clone();
        defaults.network.allowed_bridges = vec!["br0".to_owned()];
        serde_json::to_value(of(&validate(&spec, &defaults, profile).unwrap())).unwrap()
    }

    #[test]
    fn what_a_pool_leaves_open_is_told_as_it_holds() {
        let plain = |profile| said(NetworkMode::NatFiltered, None, &Defaults::default(), profile);
        let light = json!({
            "networkBytesPerSecond": 33_554_432, "packetsPerSecond": 10_000, "connections": 256,
                "processes": 2048,
        });
        assert_eq!(plain(Profile::Light), light);
        assert_eq!(plain(Profile::Intensive)["processes"], 8192);
        let preset =
            LimitPreset { disk_bytes_per_second: Some(1 << 20), ..LimitDefaults::default().light };
        let limits = LimitDefaults { light: preset, ..LimitDefaults::default() };
        let configured = Defaults { limits, ..Defaults::default() };
        let told = said(NetworkMode::NatFiltered, None, &configured, Profile::Light);
        assert_eq!(told["diskBytesPerSecond"], 1 << 20, "the operator's own");
    }

    #[test]
    fn what_a_pool_asks_for_is_told_by_the_same_names() {
        let asked = LimitsSpec {
            cpu_quota_percent: Some(50),
            disk_bytes_per_second: Some(1 << 40),
            network_bytes_per_second: Some(4_000_000_000),
            packets_per_second: Some(100),
            connections: Some(1),
            processes: Some(16),
        };
        let told = said(
            NetworkMode::NatFiltered,
            Some(asked.clone()),
            &Defaults::default(),
            Profile::Light,
        );
        assert_eq!(told, serde_json::to_value(asked).unwrap());
    }

    #[test]
    fn nobody_is_told_a_limit_that_nothing_is_held_to() {
        let plain = |mode| said(mode, None, &Defaults::default(), Profile::Light);
        assert_eq!(plain(NetworkMode::Isolated), json!({"processes": 2048}));
        let bridged = json!({"networkBytesPerSecond": 33_554_432, "packetsPerSecond": 10_000,
            "processes": 2048});
        assert_eq!(plain(NetworkMode::Bridge), bridged);
    }
}
