//! A machine's limits in libvirt's terms.
//!
//! | limit | enforced by | set by |
//! |---|---|---|
//! | processor time | cgroup `cpu`: weight, and a quota for QEMU's threads | `<cputune>` |
//! | memory | cgroup `memory`: the guest's size and QEMU's own need | set when it runs |
//! | disk | QEMU's throttles of disk and share | `<iotune>`, `-set fsdev…` |
//! | processes of QEMU | its seccomp filter: none | libvirt's `-sandbox …,spawn=deny` |
//! | processes of a run | the guest's cgroup `pids` | EXECUTE |
//!
//! They are set when a process starts; `machine/limits_in_force.rs` changes them while it lives.

use super::element::{Element, el};
use crate::{MachineLimits, Resources};

/// The kernel's usual period, microseconds: a quota is used up and given anew ten times a second.
pub const PERIOD: u64 = 100_000;
/// QEMU, its devices' buffers and the page tables of a guest.
const PROCESS_MIB: u64 = 512;
/// The most translated code that software emulation keeps.
const TRANSLATED_MIB: u64 = 1024;

/// The host's memory that may count as the machine's. Pages of files that can be read again do not
/// count for long. `in_memory_mib` is the part of the machine's files that is in memory itself.
pub fn memory_mib(resources: &Resources, kvm: bool, in_memory_mib: u64) -> u64 {
    let emulation = if kvm { 0 } else { TRANSLATED_MIB };
    u64::from(resources.memory_mib) + PROCESS_MIB + emulation + in_memory_mib
}

/// The weight counts where machines compete, the quota always.
pub fn cpu(resources: &Resources, limits: &MachineLimits) -> Element {
    let quota = quota(limits)
        .map(|quota| [el("global_period").text(PERIOD), el("global_quota").text(quota)]);
    el("cputune")
        .child(el("shares").text(resources.cpu_shares))
        .children(quota.into_iter().flatten())
}

/// Inside a `<disk>`.
pub fn disk(limits: &MachineLimits) -> Option<Element> {
    let bytes = limits.disk_bytes_per_second?;
    Some(el("iotune").child(el("total_bytes_sec").text(bytes)))
}

/// Arguments for QEMU, because libvirt has no words for the throttle of a share. `id` is libvirt's
/// name of the first one.
pub fn share(limits: &MachineLimits) -> Vec<String> {
    let Some(bytes) = limits.disk_bytes_per_second else { return Vec::new() };
    vec!["-set".to_owned(), format!("fsdev.fsdev-fs0.throttling.bps-total={bytes}")]
}

/// The processor time in each period, in microseconds.
pub fn quota(limits: &MachineLimits) -> Option<i64> {
    let of_one = i64::try_from(PERIOD).unwrap_or(i64::MAX);
    limits.cpu_quota_percent.map(|percent| i64::from(percent.max(1)).saturating_mul(of_one) / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Resources =
        Resources { vcpus: 2, memory_mib: 2048, disk_gib: 20, cpu_shares: 1024 };

    #[test]
    fn memory_is_what_the_guest_has_and_what_qemu_needs() {
        assert_eq!(memory_mib(&SIZE, true, 0), 2560);
        assert_eq!(memory_mib(&SIZE, false, 10), 3594);
    }

    #[test]
    fn a_quota_is_of_one_processor() {
        let text = |percent| {
            cpu(&SIZE, &MachineLimits { cpu_quota_percent: percent, ..Default::default() }).render()
        };
        assert!(!text(None).unwrap().contains("quota"));
        for (percent, quota) in [(50, 50_000), (150, 150_000), (0, 1000)] {
            assert!(
                text(Some(percent)).unwrap().contains(&format!("<global_quota>{quota}<")),
                "{percent}"
            );
        }
    }

    #[test]
    fn the_disk_and_the_share_are_slowed_down_alike() {
        let limits = MachineLimits { disk_bytes_per_second: Some(1 << 20), ..Default::default() };
        assert!(disk(&limits).unwrap().render().unwrap().contains("<total_bytes_sec>1048576<"));
        assert_eq!(share(&limits)[1], "fsdev.fsdev-fs0.throttling.bps-total=1048576");
        assert!(
            disk(&MachineLimits::default()).is_none()
                && share(&MachineLimits::default()).is_empty()
        );
    }
}
