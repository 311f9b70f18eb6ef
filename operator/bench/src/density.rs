//! `agentvm bench density`: measures the memory that idle machines take from the host, beside the
//! memory that they offer.
//!
//! Machines of one golden share its pages. The unshared pages of one machine are the cost of
//! another machine.

use std::sync::Arc;

use super::error::{BenchError, step};
use super::lab::Lab;
use super::product::Machine;
use super::report::{Report, Unit};
use super::rounds::bar;

/// Makes `count` machines, leaves them idle like a pool, and measures the memory of each.
pub async fn run(lab: &Arc<Lab>, memory_mib: u32, count: usize) -> Result<Report, BenchError> {
    let mut report = Report::new("density", lab.host());
    let golden = lab.golden(memory_mib, Vec::new()).await?;
    let bar = bar("density", count);
    let mut machines = Vec::new();
    for slot in 0..u32::try_from(count).unwrap_or(u32::MAX) {
        let mut machine = Machine::new(lab, &golden, slot)?;
        machine.prepare().await?;
        machines.push(machine);
        bar.inc(1);
    }
    // Measure when all machines exist, because the kernel charges each of two users of a page with
    // a half.
    for machine in &machines {
        let usage = lab.hv.usage(machine.name()).await.map_err(step("weigh a machine"))?;
        report.add("idle/unshared", Unit::Mebibytes, mebibytes(usage.unshared_bytes));
        report.add("idle/resident", Unit::Mebibytes, mebibytes(usage.resident_bytes));
        report.add("full_ram", Unit::Mebibytes, f64::from(memory_mib));
    }
    bar.finish_and_clear();
    report.compare(&[("idle_unshared/full_ram", "idle/unshared", "full_ram")]);
    report.host.insert("goldenMiB".to_owned(), (golden.memory_bytes >> 20).into());
    report.notes.push(format!(
        "{count} machines of {memory_mib} MiB, prepared and parked; unshared: the proportional set \
         of QEMU without the golden's pages, which becomes free when the machine ends; resident \
         counts the golden's pages in each machine"
    ));
    Ok(report)
}

/// A float holds the bytes of a machine without a loss of precision.
#[allow(clippy::cast_precision_loss)]
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
