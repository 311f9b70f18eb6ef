//! What a machine may take of its host beside its size: time of the processors, disk, processes.
//!
//! Memory needs no number here: a machine's QEMU gets what its guest has and what QEMU itself needs (`libvirt/xml/limits.rs`).

use serde::{Deserialize, Serialize};

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
