//! What can be done to a machine that is there: resume, pause, ask, list, destroy.

use std::fs;

use agentvm_core::names::DomainName;
use virt::connect::Connect;
use virt::domain::Domain;

use super::domain::{self, refused};
use super::host::Host;
use crate::files::remove_tree;
use crate::workspace::share;
use crate::{HvError, Machine, MachineKind, Mark, PowerState, Stop};

pub fn resume(host: &Host, conn: &Connect, name: &DomainName) -> Result<(), HvError> {
    let domain = domain::get(conn, name)?;
    match state_of(host, &domain, name)? {
        PowerState::Running => Ok(()),
        PowerState::Paused => domain.resume().map_err(refused(format!("resume machine {name}"))),
        PowerState::Absent => Err(HvError::NoSuchMachine(name.clone())),
        PowerState::Dead { why } => Err(HvError::Refused { what: format!("resume machine {name}"), detail: why }),
    }
}

pub fn pause(host: &Host, conn: &Connect, name: &DomainName) -> Result<(), HvError> {
    let domain = domain::get(conn, name)?;
    match state_of(host, &domain, name)? {
        PowerState::Paused => Ok(()),
        PowerState::Running => domain.suspend().map_err(refused(format!("pause machine {name}"))),
        PowerState::Absent => Err(HvError::NoSuchMachine(name.clone())),
        PowerState::Dead { why } => Err(HvError::Refused { what: format!("pause machine {name}"), detail: why }),
    }
}

pub fn state(host: &Host, conn: &Connect, name: &DomainName) -> Result<PowerState, HvError> {
    domain::find(conn, name)?.map_or(Ok(PowerState::Absent), |domain| state_of(host, &domain, name))
}

/// What libvirt says, and whether the machine was ever finished: one whose maker died half way is paused, and empty.
fn state_of(host: &Host, domain: &Domain, name: &DomainName) -> Result<PowerState, HvError> {
    let said = domain::power(domain)?;
    let alive = matches!(said, PowerState::Paused | PowerState::Running);
    let finished = host.layout.machine(name).ready().exists();
    match (alive, finished, host.is_at_work(name)) {
        (true, false, true) => Ok(PowerState::Paused),
        (true, false, false) => Ok(PowerState::Dead { why: "its creation was interrupted".to_owned() }),
        _ => Ok(said),
    }
}

pub fn list(host: &Host, conn: &Connect) -> Result<Vec<Machine>, HvError> {
    let mut machines = Vec::new();
    for domain in conn.list_all_domains(0).map_err(refused("list the domains"))? {
        let Some(mut record) = domain::record(&domain)?.filter(|r| r.instance == host.config.instance) else {
            continue;
        };
        record.token = fs::read_to_string(host.layout.machine(&record.name).token()).unwrap_or_default();
        let state = state_of(host, &domain, &record.name)?;
        if state != PowerState::Absent {
            machines.push(Machine { record, state, mark: Mark::None });
        }
    }
    machines.sort_by(|a, b| a.record.name.cmp(&b.record.name));
    Ok(machines)
}

pub fn destroy(host: &Host, conn: &Connect, name: &DomainName, how: Stop) -> Result<(), HvError> {
    host.locks.with(name.as_str(), || discard(host, conn, name, how))
}

/// As [`destroy`], for callers that hold the machine's lock.
pub fn discard(host: &Host, conn: &Connect, name: &DomainName, how: Stop) -> Result<(), HvError> {
    let Some(domain) = domain::find(conn, name)? else {
        host.set_at_work(name, false);
        return remove_files(host, name);
    };
    let record = domain::record(&domain)?;
    domain::end(&domain, how, host.config.stop_timeout)?;
    host.set_at_work(name, false);
    // What a template was to become goes with it: its memory file alone may take gigabytes.
    if let Some(template) = record.filter(|r| r.kind == MachineKind::Template) {
        remove_tree(&host.layout.half_golden(&template.golden).0)?;
    }
    remove_files(host, name)
}

/// The share first: a folder below which something is mounted can't be removed.
pub fn remove_files(host: &Host, name: &DomainName) -> Result<(), HvError> {
    let dir = host.layout.machine(name);
    share::unmount(&dir.share())?;
    remove_tree(&dir.0)
}
