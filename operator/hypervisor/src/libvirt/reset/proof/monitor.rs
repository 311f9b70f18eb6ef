//! Does QEMU say that it loaded the golden's state, and that the machine is paused?

use agentvm_types::report;
use virt::domain::Domain;

use crate::libvirt::qemu::monitor;

/// `answer` is QEMU's answer to the last load; it is empty when QEMU had no complaint.
pub fn check(domain: &Domain, answer: &str) -> Result<(), String> {
    if !answer.is_empty() {
        return Err(answer.to_owned());
    }
    // QEMU gives the second answer when an earlier load was refused; both mean paused.
    match monitor::status(domain).map_err(|e| report(&e))?.as_str() {
        "paused" | "restore-vm" => Ok(()),
        other => Err(format!("QEMU says that the machine is {other}")),
    }
}
