//! A machine's limits in libvirt's terms.
//!
//! | what | by | where |
//! |---|---|---|
//! | processor time | cgroup `cpu`: weight, and a quota for all threads of QEMU together | `<cputune>` |
//! | memory | cgroup `memory`: what the guest has, and what QEMU needs for itself | set when it runs |
//! | disk | QEMU's own throttles of the disk and of the share, which is the host's disk too | `<iotune>`, `-set fsdev…` |
//! | processes of QEMU | none: its seccomp filter lets it start no other | libvirt's `-sandbox …,spawn=deny` |
//! | processes of a run | the guest's cgroup `pids`; libvirt has no such limit | EXECUTE |
//!
//! They are set when a process starts, and changed while it lives. The share's throttle alone is QEMU's for as long as that runs: a machine
//! that is to have another isn't reset, and its next run gets a fresh process.

use serde::{Deserialize, Serialize};
use virt::domain::{Domain, MemoryParameters, SchedBandwidth, SchedulerInfo};
use virt::sys;

use super::domain::refused;
use super::layout::MachineDir;
use super::qmp;
use super::xml::{Element, el};
use crate::files::{read_json, write_json};
use crate::{HvError, MachineLimits, Resources};

/// The kernel's usual period, microseconds: a quota is used up and given anew ten times a second.
const PERIOD: u64 = 100_000;
/// How libvirt is told to take a quota away.
const NO_QUOTA: i64 = -1;
/// QEMU, its devices' buffers and the page tables of a guest.
const PROCESS_MIB: u64 = 512;
/// What software emulation keeps of translated code, at most.
const TRANSLATED_MIB: u64 = 1024;

/// What of the host's memory may count as the machine's. Pages of files that can be read again don't count for long; `in_memory_mib` is
/// what of the machine's files stands in memory itself.
pub fn memory_mib(resources: &Resources, kvm: bool, in_memory_mib: u64) -> u64 {
    let emulation = if kvm { 0 } else { TRANSLATED_MIB };
    u64::from(resources.memory_mib) + PROCESS_MIB + emulation + in_memory_mib
}

/// Limits a domain that has just been started. Not by `<memtune>`: with it libvirt limits what QEMU may lock in memory too, which it
/// may not do in every container, and which ours never does. A host without the cgroup still has machines.
pub fn memory(domain: &Domain, mib: u64) {
    let limit = MemoryParameters { hard_limit: Some(mib << 10), ..MemoryParameters::default() };
    if let Err(error) = domain.set_memory_parameters(limit, sys::VIR_DOMAIN_AFFECT_LIVE) {
        tracing::warn!(%error, "a machine's memory is not limited; `agentvm doctor` says what confines machines here");
    }
}

/// The weight counts where machines compete, the quota always.
pub fn cpu(resources: &Resources, limits: &MachineLimits) -> Element {
    let quota = quota(limits).map(|quota| [el("global_period").text(PERIOD), el("global_quota").text(quota)]);
    el("cputune").child(el("shares").text(resources.cpu_shares)).children(quota.into_iter().flatten())
}

/// Inside a `<disk>`.
pub fn disk(limits: &MachineLimits) -> Option<Element> {
    let bytes = limits.disk_bytes_per_second?;
    Some(el("iotune").child(el("total_bytes_sec").text(bytes)))
}

/// Arguments for QEMU: libvirt has no words for the throttle of a share. `id` is libvirt's name of the first one.
pub fn share(limits: &MachineLimits) -> Vec<String> {
    let Some(bytes) = limits.disk_bytes_per_second else { return Vec::new() };
    vec!["-set".to_owned(), format!("fsdev.fsdev-fs0.throttling.bps-total={bytes}")]
}

/// What a machine's process is held to.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Noted {
    #[serde(flatten)]
    now: MachineLimits,
    /// Of the share, as the process was started.
    share: Option<u64>,
}

impl Noted {
    /// A machine without a note was made before there were limits.
    fn of(dir: &MachineDir) -> Self {
        read_json(&dir.limits()).unwrap_or_default()
    }

    fn outdated(&self, wanted: &MachineLimits) -> Option<String> {
        let why = || "the rate of its share has changed, and holds from a process's start".to_owned();
        (self.share != wanted.disk_bytes_per_second).then(why)
    }
}

/// Notes what a machine's process is started with.
pub fn remember(dir: &MachineDir, limits: &MachineLimits) -> Result<(), HvError> {
    write_json(&dir.limits(), &Noted { now: *limits, share: limits.disk_bytes_per_second })
}

/// Why a machine can't have these limits in its process.
pub fn outdated(dir: &MachineDir, wanted: &MachineLimits) -> Option<String> {
    Noted::of(dir).outdated(wanted)
}

/// Holds a process to other limits from now on, whether its guest runs or not. What is left for the next process, if anything.
pub fn change(domain: &Domain, dir: &MachineDir, wanted: &MachineLimits) -> Result<Option<String>, HvError> {
    let noted = Noted::of(dir);
    let why = noted.outdated(wanted);
    if noted.now == *wanted {
        return Ok(why);
    }
    if noted.now.cpu_quota_percent != wanted.cpu_quota_percent {
        let bandwidth = SchedBandwidth { period: Some(PERIOD), quota: Some(quota(wanted).unwrap_or(NO_QUOTA)) };
        let scheduler = SchedulerInfo { global_bw: bandwidth, ..SchedulerInfo::default() };
        let done = domain.set_scheduler_parameters_flags(&scheduler, sys::VIR_DOMAIN_AFFECT_LIVE);
        done.map_err(refused("change a machine's quota of processor time"))?;
    }
    if noted.now.disk_bytes_per_second != wanted.disk_bytes_per_second {
        qmp::throttle_disk(domain, wanted.disk_bytes_per_second.unwrap_or(0))?;
    }
    // Last: who is interrupted before does it again.
    write_json(&dir.limits(), &Noted { now: *wanted, ..noted })?;
    Ok(why)
}

/// Of each period, microseconds.
fn quota(limits: &MachineLimits) -> Option<i64> {
    let of_one = i64::try_from(PERIOD).unwrap_or(i64::MAX);
    limits.cpu_quota_percent.map(|percent| i64::from(percent.max(1)).saturating_mul(of_one) / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Resources = Resources { vcpus: 2, memory_mib: 2048, disk_gib: 20, cpu_shares: 1024 };

    #[test]
    fn memory_is_what_the_guest_has_and_what_qemu_needs() {
        assert_eq!(memory_mib(&SIZE, true, 0), 2560);
        assert_eq!(memory_mib(&SIZE, false, 10), 3594);
    }

    #[test]
    fn a_quota_is_of_one_processor() {
        let text = |percent| cpu(&SIZE, &MachineLimits { cpu_quota_percent: percent, ..Default::default() }).render();
        assert!(!text(None).unwrap().contains("quota"));
        for (percent, quota) in [(50, 50_000), (150, 150_000), (0, 1000)] {
            assert!(text(Some(percent)).unwrap().contains(&format!("<global_quota>{quota}<")), "{percent}");
        }
    }

    #[test]
    fn the_disk_and_the_share_are_slowed_down_alike() {
        let limits = MachineLimits { disk_bytes_per_second: Some(1 << 20), ..Default::default() };
        assert!(disk(&limits).unwrap().render().unwrap().contains("<total_bytes_sec>1048576<"));
        assert_eq!(share(&limits)[1], "fsdev.fsdev-fs0.throttling.bps-total=1048576");
        assert!(disk(&MachineLimits::default()).is_none() && share(&MachineLimits::default()).is_empty());
    }

    #[test]
    fn the_share_s_rate_is_a_process_s_for_as_long_as_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let dir = MachineDir(dir.path().to_owned());
        let slow =
            MachineLimits { cpu_quota_percent: Some(50), disk_bytes_per_second: Some(1 << 20), ..Default::default() };
        assert!(outdated(&dir, &slow).is_some());
        assert_eq!(outdated(&dir, &MachineLimits::default()), None, "made before there were limits");
        remember(&dir, &slow).unwrap();
        assert_eq!(outdated(&dir, &slow), None);
        assert_eq!(outdated(&dir, &MachineLimits { processes: 7, ..slow }), None, "that one goes with each run");
        assert_eq!(outdated(&dir, &MachineLimits { cpu_quota_percent: None, ..slow }), None, "that one can be changed");
        assert!(outdated(&dir, &MachineLimits::default()).is_some());
    }
}
