//! The limits of a machine's process: noted when it starts, changed while it lives.
//!
//! Only the share's throttle never changes while QEMU runs. A machine that needs another throttle
//! is not reset, and its next run gets a fresh process.

use serde::{Deserialize, Serialize};
use virt::domain::{Domain, MemoryParameters, SchedBandwidth, SchedulerInfo};
use virt::sys;

use crate::files::{read_json, write_json};
use crate::libvirt::connection::domain::refused;
use crate::libvirt::qemu::monitor;
use crate::libvirt::store::state_folder::MachineDir;
use crate::libvirt::xml::limits::{PERIOD, quota};
use crate::{HvError, MachineLimits};

/// The value that makes libvirt take a quota away.
const NO_QUOTA: i64 = -1;

/// Limits a domain that has just been started. `<memtune>` is no way: with it libvirt also limits
/// the memory that QEMU may lock. Some containers do not permit that, and our QEMUs lock none. A
/// host without the cgroup still has machines.
pub fn memory(domain: &Domain, mib: u64) {
    let limit = MemoryParameters { hard_limit: Some(mib << 10), ..MemoryParameters::default() };
    if let Err(error) = domain.set_memory_parameters(limit, sys::VIR_DOMAIN_AFFECT_LIVE) {
        tracing::warn!(%error, "a machine's memory is not limited; `agentvm doctor` says what \
            confines machines here");
    }
}

/// The limits of a machine's process.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Noted {
    #[serde(flatten)]
    now: MachineLimits,
    /// The share's throttle, from the start of the process.
    share: Option<u64>,
}

impl Noted {
    /// A machine without a note was made before there were limits.
    fn of(dir: &MachineDir) -> Self {
        read_json(&dir.limits()).unwrap_or_default()
    }

    fn outdated(&self, wanted: &MachineLimits) -> Option<String> {
        let why =
            || "the rate of its share has changed, and holds from a process's start".to_owned();
        (self.share != wanted.disk_bytes_per_second).then(why)
    }
}

/// Notes the limits that a machine's process starts with.
pub fn remember(dir: &MachineDir, limits: &MachineLimits) -> Result<(), HvError> {
    write_json(&dir.limits(), &Noted { now: *limits, share: limits.disk_bytes_per_second })
}

/// Why a machine can't have these limits in its process.
pub fn outdated(dir: &MachineDir, wanted: &MachineLimits) -> Option<String> {
    Noted::of(dir).outdated(wanted)
}

/// Gives a process other limits from now on, whether its guest runs or not. Returns the limits that
/// need the next process, if any.
pub fn change(
    domain: &Domain,
    dir: &MachineDir,
    wanted: &MachineLimits,
) -> Result<Option<String>, HvError> {
    let noted = Noted::of(dir);
    let why = noted.outdated(wanted);
    if noted.now == *wanted {
        return Ok(why);
    }
    if noted.now.cpu_quota_percent != wanted.cpu_quota_percent {
        let bandwidth =
            SchedBandwidth { period: Some(PERIOD), quota: Some(quota(wanted).unwrap_or(NO_QUOTA)) };
        let scheduler = SchedulerInfo { global_bw: bandwidth, ..SchedulerInfo::default() };
        let done = domain.set_scheduler_parameters_flags(&scheduler, sys::VIR_DOMAIN_AFFECT_LIVE);
        done.map_err(refused("change a machine's quota of processor time"))?;
    }
    if noted.now.disk_bytes_per_second != wanted.disk_bytes_per_second {
        monitor::throttle_disk(domain, wanted.disk_bytes_per_second.unwrap_or(0))?;
    }
    // This comes last: an interrupted change is done again.
    write_json(&dir.limits(), &Noted { now: *wanted, ..noted })?;
    Ok(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_s_rate_is_a_process_s_for_as_long_as_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let dir = MachineDir(dir.path().to_owned());
        let slow = MachineLimits {
            cpu_quota_percent: Some(50),
            disk_bytes_per_second: Some(1 << 20),
            ..Default::default()
        };
        assert!(outdated(&dir, &slow).is_some());
        assert_eq!(
            outdated(&dir, &MachineLimits::default()),
            None,
            "made before there were limits"
        );
        remember(&dir, &slow).unwrap();
        assert_eq!(outdated(&dir, &slow), None);
        assert_eq!(
            outdated(&dir, &MachineLimits { processes: 7, ..slow }),
            None,
            "that one goes with each run"
        );
        assert_eq!(
            outdated(&dir, &MachineLimits { cpu_quota_percent: None, ..slow }),
            None,
            "that one can be changed"
        );
        assert!(outdated(&dir, &MachineLimits::default()).is_some());
    }
}
