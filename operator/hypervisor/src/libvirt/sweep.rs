//! What a crash left: half goldens, templates that nobody drives any more, folders of machines that aren't there.

use agentvm_core::names::DomainName;
use virt::connect::Connect;

use super::host::Host;
use super::layout::HALF;
use super::machine;
use crate::files::{names_in, remove_tree};
use crate::{HvError, MachineKind, Stop};

pub fn sweep(host: &Host, conn: &Connect) -> Result<Vec<String>, HvError> {
    let mut swept = Vec::new();
    let mut kept = Vec::new();
    for machine in machine::list(host, conn)? {
        let name = machine.record.name;
        // The setup of a golden can't be taken up in the middle, so its template starts again from the image.
        if machine.record.kind == MachineKind::Template && !host.is_at_work(&name) {
            machine::destroy(host, conn, &name, Stop::Force)?;
            swept.push(format!("template {name}"));
        } else {
            kept.push((name, machine.record.golden));
        }
    }
    for name in names_in(&host.layout.machines()).into_iter().map(DomainName::from_recorded) {
        if !host.is_at_work(&name) && !kept.iter().any(|(kept, _)| *kept == name) {
            host.locks.with(name.as_str(), || machine::remove_files(host, &name))?;
            swept.push(format!("files of machine {name}"));
        }
    }
    for name in names_in(&host.layout.goldens()) {
        let Some(key) = name.strip_prefix(HALF) else { continue };
        if !kept.iter().any(|(machine, golden)| golden.as_str() == key && host.is_at_work(machine)) {
            remove_tree(&host.layout.goldens().join(&name))?;
            swept.push(format!("half golden {key}"));
        }
    }
    Ok(swept)
}
