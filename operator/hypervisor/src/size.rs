//! The size of a machine, and the limits that its host applies to it.
//!
//! The limits need no number for memory: the QEMU of a machine gets the memory of its guest and what
//! QEMU itself needs (`libvirt/xml/limits.rs`).

use serde::{Deserialize, Serialize};

/// The size of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    pub vcpus: u32,
    pub memory_mib: u32,
    pub disk_gib: u32,
    pub cpu_shares: u32,
}

/// Limits of one machine. `None` sets no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineLimits {
    /// Of one processor's time, for all of QEMU: 100 is one whole processor, 50 half of one.
    pub cpu_quota_percent: Option<u32>,
    /// Read and written together, over all of the machine's disks.
    pub disk_bytes_per_second: Option<u64>,
    /// Of one run in the guest; the guest's kernel holds it to that. 0: as many as its memory carries.
    pub processes: u32,
}
