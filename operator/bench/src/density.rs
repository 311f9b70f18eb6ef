//! `agentvm bench density`: what idle machines cost the host, beside what they are sold as.
//!
//! Machines of one golden share its pages; what only one of them has is what another machine costs.

use std::sync::Arc;

use super::error::{BenchError, step};
use super::lab::Lab;
use super::product::Machine;
use super::report::{Report, Unit};
use super::rounds::bar;

/// Makes `count` machines, leaves them as a pool would, and weighs each.
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
    // Only now, with all of them there: what is shared by two is charged to each by half.
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
        "{count} machines of {memory_mib} MiB, prepared and parked; unshared: the proportional set of QEMU without the golden's \
         pages, which goes away with the machine; resident counts the golden's pages in each"
    ));
    Ok(report)
}

/// Machines have less memory than a float can count.
#[allow(clippy::cast_precision_loss)]
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
