//! Removes the remains of a crash: half goldens, abandoned templates, folders of missing machines.

use agentvm_core::names::DomainName;
use virt::connect::Connect;

use super::{observe, power, self_test_record};
use crate::files::{names_in, remove_tree};
use crate::libvirt::connection::lanes::ALWAYS;
use crate::libvirt::host::state::Host;
use crate::libvirt::store::state_folder::HALF;
use crate::{HvError, MachineKind, Stop};

pub fn sweep(host: &Host, conn: &Connect) -> Result<Vec<String>, HvError> {
    let mut swept = Vec::new();
    let mut kept = Vec::new();
    for machine in observe::all(&host.folder, &host.at_work, &host.config.instance, conn)? {
        let name = machine.record.name.clone();
        if self_test_record::is_test(&machine.record)
            && !self_test_record::is_testing(&host.at_work, &name)
        {
            power::destroy(host, conn, &name, Stop::Force, ALWAYS)?;
            swept.push(format!("self-test's machine {name}"));
            continue;
        }
        // The setup of a golden cannot go on in the middle, so its template starts again from the
        // image.
        if machine.record.kind == MachineKind::Template && !host.at_work.contains(&name) {
            power::destroy(host, conn, &name, Stop::Force, ALWAYS)?;
            swept.push(format!("template {name}"));
        } else {
            kept.push((name, machine.record.golden));
        }
    }
    for name in names_in(&host.folder.machines()).into_iter().map(DomainName::from_recorded) {
        if !host.at_work.contains(&name)
            && !self_test_record::is_testing(&host.at_work, &name)
            && !kept.iter().any(|(kept, _)| *kept == name)
        {
            host.locks.with(name.as_str(), || power::remove_files(&host.folder, &name))?;
            swept.push(format!("files of machine {name}"));
        }
    }
    // Machines have their library open. Only a machine that is being started looks for it by name,
    // and that is the present one.
    for name in names_in(&host.folder.preload()) {
        let file = host.folder.preload().join(&name);
        if host.preload.as_ref() != Ok(&file) && std::fs::remove_file(&file).is_ok() {
            swept.push(format!("preloaded library {name}"));
        }
    }
    for name in names_in(&host.folder.goldens()) {
        let Some(key) = name.strip_prefix(HALF) else { continue };
        if !kept
            .iter()
            .any(|(machine, golden)| golden.as_str() == key && host.at_work.contains(machine))
        {
            remove_tree(&host.folder.goldens().join(&name))?;
            swept.push(format!("half golden {key}"));
        }
    }
    Ok(swept)
}
