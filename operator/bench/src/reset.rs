//! `agentvm bench reset`: measures from a used machine to its golden state, in every possible way.
//!
//! There are two figures for each way. *restored*: the vCPUs run again. *ready*: the agent has
//! answered. Our own figures include the proof.

use std::sync::Arc;

use agentvm_core::golden::Step;
use agentvm_hypervisor::Tier;

use super::error::BenchError;
use super::lab::Lab;
use super::ordinary::{Ordinary, Way};
use super::product::{Fresh, InPlace, Machine};
use super::report::Report;
use super::rounds::{Contender, alternate};

/// From this size on, the bench touches a GiB of memory before the capture.
const LARGE_MIB: u32 = 2048;
/// Fills the only file system in a machine's memory that outlives a command. The agent and the
/// kernel take about 130 MiB more.
const TOUCH: &str = "yes agentvm | head -c 960M > /run/touched";

/// Measures each size. The names of all sizes but the first have the size as a suffix.
pub async fn run(lab: &Arc<Lab>, sizes: &[u32], n: usize) -> Result<Report, BenchError> {
    let mut report = Report::new("reset", lab.host());
    for (index, memory_mib) in sizes.iter().enumerate() {
        let suffix = if index == 0 { String::new() } else { format!("@{memory_mib}MiB") };
        one_size(lab, *memory_mib, n, &suffix, &mut report).await?;
        compare(&mut report, &suffix);
    }
    if let [small, large, ..] = sizes {
        let flat = format!("in_place_restored_{large}MiB/{small}MiB");
        report.compare(&[(&flat, &format!("in_place/restored@{large}MiB"), "in_place/restored")]);
    }
    report.notes.push(notes(sizes));
    Ok(report)
}

async fn one_size(
    lab: &Arc<Lab>,
    memory_mib: u32,
    n: usize,
    suffix: &str,
    report: &mut Report,
) -> Result<(), BenchError> {
    let touch = (memory_mib >= LARGE_MIB).then(|| TOUCH.to_owned());
    let command =
        touch.iter().map(|command| ["/bin/sh", "-c", command].map(str::to_owned).to_vec());
    let golden = lab
        .golden(memory_mib, command.map(|command| Step { command, timeout_seconds: 600 }).collect())
        .await?;
    let tiers =
        lab.hv.tiers(&golden.key).await.map_err(super::error::step("test the reset tiers"))?;
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    if tiers.tier == Tier::InPlace {
        contenders.push(Box::new(InPlace(Machine::new(lab, &golden, 0)?)));
    } else {
        report.notes.push(format!(
            "{memory_mib} MiB: no reset in place on this host. {}",
            tiers.why_not_better
        ));
    }
    let fresh = Machine::new(lab, &golden, 1)?;
    contenders.push(Box::new(Fresh(fresh)));
    for way in [Way::Revert, Way::Restore, Way::Boot] {
        contenders.push(Box::new(Ordinary::new(lab, way, memory_mib, touch.clone())?));
    }
    let done = alternate(&mut contenders, n, suffix, report).await;
    drop(contenders);
    lab.clear().await;
    report.host.insert(format!("goldenMiB{suffix}"), (golden.memory_bytes >> 20).into());
    done
}

fn compare(report: &mut Report, suffix: &str) {
    let pairs = [
        ("libvirt_revert_ready/in_place_restored", "libvirt_revert/ready", "in_place/restored"),
        (
            "libvirt_revert_restored/in_place_restored",
            "libvirt_revert/restored",
            "in_place/restored",
        ),
        ("libvirt_revert_ready/in_place_ready", "libvirt_revert/ready", "in_place/ready"),
        ("libvirt_revert_ready/fresh_ready", "libvirt_revert/ready", "fresh/ready"),
        ("libvirt_restore_ready/fresh_ready", "libvirt_restore/ready", "fresh/ready"),
        ("cold_boot_ready/fresh_ready", "cold_boot/ready", "fresh/ready"),
        ("cold_boot_ready/in_place_ready", "cold_boot/ready", "in_place/ready"),
    ];
    let named =
        pairs.map(|names| [names.0, names.1, names.2].map(|name| format!("{name}{suffix}")));
    let named: Vec<(&str, &str, &str)> =
        named.iter().map(|[name, a, b]| (name.as_str(), a.as_str(), b.as_str())).collect();
    report.compare(&named);
}

fn notes(sizes: &[u32]) -> String {
    let sizes: Vec<String> = sizes.iter().map(u32::to_string).collect();
    format!(
        "machines of {} MiB (from {LARGE_MIB} MiB on, 960 MiB are filled before the capture); a \
         command dirties 20 MiB before each reset; restored: vCPUs run again; ready: the agent has \
         answered; in_place includes stop and proof, fresh and libvirt_restore include the end of \
         the process before; all machines but the measured one are paused",
        sizes.join(" and ")
    )
}
