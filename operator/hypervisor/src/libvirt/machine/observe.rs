//! What machines there are and what they are doing, as libvirt and our own marks say together.

use std::fs;

use agentvm_core::names::DomainName;
use virt::connect::Connect;
use virt::domain::Domain;

use super::self_test_record;
use crate::libvirt::connection::domain::{self, refused};
use crate::libvirt::host::state::Host;
use crate::libvirt::store::marks;
use crate::{HvError, Machine, MachineRecord, Mark, PowerState};

pub fn state(host: &Host, conn: &Connect, name: &DomainName) -> Result<PowerState, HvError> {
    domain::find(conn, name)?.map_or(Ok(PowerState::Absent), |domain| state_of(host, &domain, name))
}

/// The machine's present incarnation; `None` when the domain isn't agentvm's.
pub fn record(host: &Host, domain: &Domain) -> Result<Option<MachineRecord>, HvError> {
    let made_as = domain::record(domain)?;
    Ok(made_as.map(|made_as| marks::record(&host.folder.machine(&made_as.name), made_as)))
}

/// What libvirt says, and whether the machine was ever finished: one whose maker died half way is paused, and empty.
pub fn state_of(host: &Host, domain: &Domain, name: &DomainName) -> Result<PowerState, HvError> {
    let said = domain::power(domain)?;
    let alive = matches!(said, PowerState::Paused | PowerState::Running);
    let dir = host.folder.machine(name);
    let interrupted =
        |what: &str| Ok(PowerState::Dead { why: format!("its {what} was interrupted") });
    match () {
        () if !alive || dir.ready().exists() || marks::is_quarantined(&dir) => Ok(said),
        () if host.is_at_work(name) => Ok(PowerState::Paused),
        () if dir.resetting().exists() => interrupted("reset"),
        () => interrupted("creation"),
    }
}

/// Everybody's machines; those of self-tests are nobody's.
pub fn list(host: &Host, conn: &Connect) -> Result<Vec<Machine>, HvError> {
    let mut machines = all(host, conn)?;
    machines.retain(|machine| !self_test_record::is_test(&machine.record));
    Ok(machines)
}

/// Of others' domains no more than the name is looked at: what those are slow to answer is nothing to wait for.
pub fn all(host: &Host, conn: &Connect) -> Result<Vec<Machine>, HvError> {
    let mut machines = Vec::new();
    let ours = DomainName::prefix(&host.config.instance);
    for domain in conn.list_all_domains(0).map_err(refused("list the domains"))? {
        if !domain.name().is_ok_and(|name| name.starts_with(&ours)) {
            continue;
        }
        let Some(mut record) =
            record(host, &domain)?.filter(|r| r.instance == host.config.instance)
        else {
            continue;
        };
        record.token =
            fs::read_to_string(host.folder.machine(&record.name).token()).unwrap_or_default();
        let state = state_of(host, &domain, &record.name)?;
        if state != PowerState::Absent {
            let mark = match (marks::read(&host.folder.machine(&record.name)), &state) {
                // What has died or was resumed isn't what was parked.
                (Mark::Parked { .. }, state) if *state != PowerState::Paused => Mark::None,
                (mark, _) => mark,
            };
            machines.push(Machine { record, state, mark });
        }
    }
    machines.sort_by(|a, b| a.record.name.cmp(&b.record.name));
    Ok(machines)
}
