//! What can be done to a machine that is there: resume, pause, ask, list, destroy.

use std::fs;

use agentvm_core::names::DomainName;
use virt::connect::Connect;
use virt::domain::Domain;

use super::domain::{self, refused};
use super::host::Host;
use super::layout::MachineDir;
use super::proof::{
    self,
    smaps::{self, Place},
};
use super::worker::{Wanted, still};
use super::{links, marks, process, process_limits, self_test};
use crate::files::remove_tree;
use crate::workspace::{input, share};
use crate::{HvError, InputFile, Machine, MachineKind, MachineLimits, MachineRecord, Mark, PowerState, Stop, Usage};

/// The mark goes first: an operator that is killed in between finds a machine of which nothing good is said.
pub fn resume(host: &Host, conn: &Connect, name: &DomainName, wanted: Wanted<'_>) -> Result<(), HvError> {
    let domain = domain::get(conn, name)?;
    let dir = host.layout.machine(name);
    still(wanted, "resume a machine")?;
    usable(&dir, name, "resume")?;
    marks::clear_parked(&dir)?;
    // A claim waits for this: how the machine is doing is asked only where it doesn't do as it is told.
    let Err(error) = domain.resume() else { return Ok(()) };
    match state_of(host, &domain, name)? {
        PowerState::Running => Ok(()),
        PowerState::Paused => Err(refused(format!("resume machine {name}"))(error)),
        PowerState::Absent => Err(HvError::NoSuchMachine(name.clone())),
        PowerState::Dead { why } => Err(HvError::Refused { what: format!("resume machine {name}"), detail: why }),
    }
}

/// The mark goes first here too: a share with a run's input in it isn't that of a parked machine, whether or not it has been resumed.
pub fn put_input(host: &Host, name: &DomainName, files: &[InputFile]) -> Result<(), HvError> {
    let dir = host.layout.machine(name);
    if !dir.share().is_dir() {
        return Err(HvError::NoSuchMachine(name.clone()));
    }
    marks::clear_parked(&dir)?;
    input::put(&dir.share(), host.mapping(name), files)
}

/// Not while it is being made or reset, and not when it isn't to be trusted.
fn usable(dir: &MachineDir, name: &DomainName, what: &str) -> Result<(), HvError> {
    let refuse =
        |detail: &str| Err(HvError::Refused { what: format!("{what} machine {name}"), detail: detail.to_owned() });
    match (marks::is_quarantined(dir), dir.ready().exists()) {
        (true, _) => refuse("it is quarantined"),
        (false, false) => refuse("it is not whole"),
        (false, true) => Ok(()),
    }
}

/// The mark comes last: what it says is true by then, and stays true until the next resume.
pub fn park(host: &Host, conn: &Connect, name: &DomainName, evidence: &str) -> Result<(), HvError> {
    let dir = host.layout.machine(name);
    pause(host, conn, name)?;
    usable(&dir, name, "park")?;
    marks::set_parked(&dir, evidence)
}

/// Also of a machine whose reset was interrupted, or that has died: it is kept for a look as it is.
pub fn quarantine(host: &Host, conn: &Connect, name: &DomainName, until: i64, why: &str) -> Result<(), HvError> {
    let dir = host.layout.machine(name);
    let domain = domain::get(conn, name)?;
    marks::clear_parked(&dir)?;
    if domain::power(&domain)? == PowerState::Running {
        domain.suspend().map_err(refused(format!("pause machine {name}")))?;
    }
    marks::set_quarantined(&dir, until, why)?;
    record(host, &domain)?.map_or(Ok(()), |record| links::cut(host, &record))
}

/// Proportional set, less what it has of the golden's file pages: those stay when it goes.
pub fn usage(host: &Host, name: &DomainName) -> Result<Usage, HvError> {
    let table = proof::memory::read_smaps(process::pid(name)?)?;
    let golden = smaps::of(&table, &host.layout.goldens().to_string_lossy(), Place::Within);
    let kib = |field| golden.iter().filter_map(|mapping| mapping.kib(field)).sum::<u64>();
    let of_files = kib("Pss").saturating_sub(kib("Anonymous"));
    Ok(Usage {
        unshared_bytes: smaps::total(&table, "Pss:").saturating_sub(of_files) << 10,
        resident_bytes: smaps::total(&table, "Rss:") << 10,
    })
}

/// Not while somebody makes, resets or ends it: whoever does holds it to the limits of that moment.
pub fn relimit(
    host: &Host,
    conn: &Connect,
    name: &DomainName,
    limits: &MachineLimits,
    wanted: Wanted<'_>,
) -> Result<Option<String>, HvError> {
    host.locks.with(name.as_str(), || {
        still(wanted, "change a machine's limits")?;
        process_limits::change(&domain::get(conn, name)?, &host.layout.machine(name), limits)
    })
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

/// The machine's present incarnation; `None` when the domain isn't agentvm's.
pub fn record(host: &Host, domain: &Domain) -> Result<Option<MachineRecord>, HvError> {
    let made_as = domain::record(domain)?;
    Ok(made_as.map(|made_as| marks::record(&host.layout.machine(&made_as.name), made_as)))
}

/// What libvirt says, and whether the machine was ever finished: one whose maker died half way is paused, and empty.
fn state_of(host: &Host, domain: &Domain, name: &DomainName) -> Result<PowerState, HvError> {
    let said = domain::power(domain)?;
    let alive = matches!(said, PowerState::Paused | PowerState::Running);
    let dir = host.layout.machine(name);
    let interrupted = |what: &str| Ok(PowerState::Dead { why: format!("its {what} was interrupted") });
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
    machines.retain(|machine| !self_test::is_test(&machine.record));
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
        let Some(mut record) = record(host, &domain)?.filter(|r| r.instance == host.config.instance) else {
            continue;
        };
        record.token = fs::read_to_string(host.layout.machine(&record.name).token()).unwrap_or_default();
        let state = state_of(host, &domain, &record.name)?;
        if state != PowerState::Absent {
            let mark = match (marks::read(&host.layout.machine(&record.name)), &state) {
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

/// Whoever works on it may wait for a QEMU that doesn't answer any more, and holds its lock meanwhile: by force, QEMU goes first.
pub fn destroy(host: &Host, conn: &Connect, name: &DomainName, how: Stop, wanted: Wanted<'_>) -> Result<(), HvError> {
    let held = || {
        if how == Stop::Force
            && wanted()
            && let Ok(Some(domain)) = domain::find(conn, name)
            && let Err(error) = domain::kill(&domain)
        {
            tracing::warn!(%name, error = &error as &dyn std::error::Error, "a machine that somebody works on could not be ended");
        }
    };
    host.locks.with_or(name.as_str(), held, || {
        still(wanted, "destroy a machine")?;
        discard(host, conn, name, how)
    })
}

/// As [`destroy`], for callers that hold the machine's lock.
pub fn discard(host: &Host, conn: &Connect, name: &DomainName, how: Stop) -> Result<(), HvError> {
    let Some(domain) = domain::find(conn, name)? else {
        host.set_at_work(name, false);
        links::gone(host, name);
        return remove_files(host, name);
    };
    let record = domain::record(&domain)?;
    if let Some(record) = &record {
        host.firewall.know(record);
    }
    links::gone(host, name);
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
