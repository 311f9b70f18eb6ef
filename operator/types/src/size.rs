//! The size of a machine, and the limits that its host holds it to.

use serde::{Deserialize, Serialize};

/// The size of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    pub vcpus: u32,
    pub memory_mib: u32,
    pub disk_gib: u32,
    pub cpu_shares: u32,
}

/// Limits of one machine beside its size. `None` sets no limit.
///
/// Memory needs no number here: the QEMU of a machine gets the memory of its guest and what QEMU
/// itself needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineLimits {
    /// Processor time of the whole QEMU process, in percent of one processor: 50 is half a
    /// processor.
    pub cpu_quota_percent: Option<u32>,
    /// Bytes read and written together, over all disks of the machine.
    pub disk_bytes_per_second: Option<u64>,
    /// Processes and threads of one run; the guest's kernel enforces it. 0 means as many as the
    /// memory allows.
    pub processes: u32,
}
