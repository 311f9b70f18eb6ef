//! The machines and their states, from libvirt and our own marks together.

use std::fs;

use agentvm_core::names::{DomainName, InstanceId};
use agentvm_types::Token;
use virt::connect::Connect;
use virt::domain::Domain;

use super::self_test_record;
use crate::libvirt::connection::domain::{self, refused};
use crate::libvirt::host::at_work::AtWork;
use crate::libvirt::store::marks;
use crate::libvirt::store::state_folder::StateFolder;
use crate::{HvError, Machine, MachineRecord, Mark, PowerState};

/// The power state of a machine.
pub fn state(
    folder: &StateFolder,
    at_work: &AtWork,
    conn: &Connect,
    name: &DomainName,
) -> Result<PowerState, HvError> {
    let found = domain::find(conn, name)?;
    found.map_or(Ok(PowerState::Absent), |domain| state_of(folder, at_work, &domain, name))
}

/// The machine's present incarnation; `None` when the domain is not agentvm's.
pub fn record(folder: &StateFolder, domain: &Domain) -> Result<Option<MachineRecord>, HvError> {
    let made_as = domain::record(domain)?;
    Ok(made_as.map(|made_as| marks::record(&folder.machine(&made_as.name), made_as)))
}

/// libvirt's state, and the mark of a finished machine: a machine whose maker died half way is
/// paused, and empty.
pub fn state_of(
    folder: &StateFolder,
    at_work: &AtWork,
    domain: &Domain,
    name: &DomainName,
) -> Result<PowerState, HvError> {
    let said = domain::power(domain)?;
    let alive = matches!(said, PowerState::Paused | PowerState::Running);
    let dir = folder.machine(name);
    let interrupted =
        |what: &str| Ok(PowerState::Dead { why: format!("its {what} was interrupted") });
    match () {
        () if !alive || dir.ready().exists() || marks::is_quarantined(&dir) => Ok(said),
        () if at_work.contains(name) => Ok(PowerState::Paused),
        () if dir.resetting().exists() => interrupted("reset"),
        () => interrupted("creation"),
    }
}

/// The machines of all owners; machines of self-tests have none.
pub fn list(
    folder: &StateFolder,
    at_work: &AtWork,
    instance: &InstanceId,
    conn: &Connect,
) -> Result<Vec<Machine>, HvError> {
    let mut machines = all(folder, at_work, instance, conn)?;
    machines.retain(|machine| !self_test_record::is_test(&machine.record));
    Ok(machines)
}

/// Only the names of foreign domains are read: they may be slow to answer, and nothing should wait
/// for that.
pub fn all(
    folder: &StateFolder,
    at_work: &AtWork,
    instance: &InstanceId,
    conn: &Connect,
) -> Result<Vec<Machine>, HvError> {
    let mut machines = Vec::new();
    let ours = DomainName::prefix(instance);
    for domain in conn.list_all_domains(0).map_err(refused("list the domains"))? {
        if !domain.name().is_ok_and(|name| name.starts_with(&ours)) {
            continue;
        }
        let Some(mut record) = record(folder, &domain)?.filter(|r| r.instance == *instance) else {
            continue;
        };
        let token = fs::read_to_string(folder.machine(&record.name).token());
        record.token = Token::new(token.unwrap_or_default());
        let state = state_of(folder, at_work, &domain, &record.name)?;
        if state != PowerState::Absent {
            let mark = match (marks::read(&folder.machine(&record.name)), &state) {
                // A machine that died or was resumed is not the parked one.
                (Mark::Parked { .. }, state) if *state != PowerState::Paused => Mark::None,
                (mark, _) => mark,
            };
            machines.push(Machine { record, state, mark });
        }
    }
    machines.sort_by(|a, b| a.record.name.cmp(&b.record.name));
    Ok(machines)
}
