//! Default limits of machines. A pool overrides each of them in `spec.limits`.

use agentvm_crds::Profile;

/// Default limits of a machine, by the profile of its golden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitDefaults {
    pub light: LimitPreset,
    pub standard: LimitPreset,
    pub intensive: LimitPreset,
}

/// The limits of one profile. `None` sets no limit.
///
/// No profile limits processor time: a machine's virtual CPUs bound it already. No profile limits
/// the rate of the disk: a high rate on one host is a hundredth of a high rate on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitPreset {
    pub disk_bytes_per_second: Option<u64>,
    pub network_bytes_per_second: Option<u64>,
    pub packets_per_second: u32,
    pub connections: u32,
    pub processes: u32,
}

impl Default for LimitDefaults {
    fn default() -> Self {
        // In proportion to the processors of each profile: 1, 2 and 4.
        let preset = |times: u32| LimitPreset {
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
    /// The limits of this profile. A custom size has the limits of the profile that it comes
    /// nearest to; until that is known, it counts as Standard.
    pub fn of(&self, profile: Profile) -> &LimitPreset {
        match profile {
            Profile::Light => &self.light,
            Profile::Standard | Profile::Custom => &self.standard,
            Profile::Intensive => &self.intensive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_grow_with_the_processors_of_a_profile() {
        let limits = LimitDefaults::default();
        let processes = |profile| limits.of(profile).processes;
        assert_eq!(processes(Profile::Light), 2048);
        assert_eq!(processes(Profile::Standard), 4096);
        assert_eq!(processes(Profile::Intensive), 8192);
        assert_eq!(limits.of(Profile::Custom), limits.of(Profile::Standard));
    }
}
