//! The operations on an existing machine: resume, pause, park, limit, destroy.

use agentvm_core::names::DomainName;
use virt::connect::Connect;
use virt::domain::Domain;

use super::{limits_in_force, links, observe};
use crate::files::remove_tree;
use crate::libvirt::connection::domain::{self, refused};
use crate::libvirt::connection::lanes::{Wanted, still};
use crate::libvirt::host::state::Host;
use crate::libvirt::qemu::process;
use crate::libvirt::qemu::smaps::{self, Place};
use crate::libvirt::qemu::users::MachineUsers;
use crate::libvirt::store::marks;
use crate::libvirt::store::state_folder::{MachineDir, StateFolder};
use crate::workspace::{input, share};
use crate::{HvError, InputFile, MachineKind, MachineLimits, PowerState, Stop, Usage};

/// The mark goes first: an operator that is killed in between finds a machine without a good mark.
pub fn resume(
    Host { folder, at_work, monitors, .. }: &Host,
    conn: &Connect,
    name: &DomainName,
    wanted: Wanted<'_>,
) -> Result<(), HvError> {
    let domain = domain::get(conn, name)?;
    let dir = folder.machine(name);
    still(wanted, "resume a machine")?;
    usable(&dir, name, "resume")?;
    marks::clear_parked(&dir)?;
    // A claim waits for this: the machine's state is asked only when the call fails.
    let resumed = monitors.alone(name, "resume", || Ok(domain.resume()))?;
    let Err(error) = resumed else { return Ok(()) };
    match observe::state_of(folder, at_work, &domain, name)? {
        PowerState::Running => Ok(()),
        PowerState::Paused => Err(refused(format!("resume machine {name}"))(error)),
        PowerState::Absent => Err(HvError::NoSuchMachine(name.clone())),
        PowerState::Dead { why } => {
            Err(HvError::Refused { what: format!("resume machine {name}"), detail: why })
        }
    }
}

/// The mark goes first here too: a share with a run's input does not belong to a parked machine,
/// whether or not it has been resumed.
pub fn put_input(
    folder: &StateFolder,
    users: &MachineUsers,
    name: &DomainName,
    files: &[InputFile],
) -> Result<(), HvError> {
    let dir = folder.machine(name);
    if !dir.share().is_dir() {
        return Err(HvError::NoSuchMachine(name.clone()));
    }
    marks::clear_parked(&dir)?;
    input::put(&dir.share(), users.mapping(name), files)
}

/// Not while it is being made or reset, and not when it isn't to be trusted.
fn usable(dir: &MachineDir, name: &DomainName, what: &str) -> Result<(), HvError> {
    let refuse = |detail: &str| {
        Err(HvError::Refused { what: format!("{what} machine {name}"), detail: detail.to_owned() })
    };
    match (marks::is_quarantined(dir), dir.ready().exists()) {
        (true, _) => refuse("it is quarantined"),
        (false, false) => refuse("it is not whole"),
        (false, true) => Ok(()),
    }
}

/// The mark comes last: it is true by then, and stays true until the next resume.
pub fn park(host: &Host, conn: &Connect, name: &DomainName, evidence: &str) -> Result<(), HvError> {
    let dir = host.folder.machine(name);
    pause(host, conn, name)?;
    usable(&dir, name, "park")?;
    marks::set_parked(&dir, evidence)
}

/// This also covers a machine whose reset was interrupted, or that has died: it is kept as it is.
pub fn quarantine(
    Host { folder, firewall, monitors, .. }: &Host,
    conn: &Connect,
    name: &DomainName,
    until: i64,
    why: &str,
) -> Result<(), HvError> {
    let dir = folder.machine(name);
    let domain = domain::get(conn, name)?;
    marks::clear_parked(&dir)?;
    if domain::power(&domain)? == PowerState::Running {
        monitors.alone(name, "pause", || suspend(&domain, name))?;
    }
    marks::set_quarantined(&dir, until, why)?;
    observe::record(folder, &domain)?.map_or(Ok(()), |record| links::cut(firewall, &record))
}

/// The proportional set, less the golden's file pages: those stay when the machine goes.
pub fn usage(folder: &StateFolder, name: &DomainName) -> Result<Usage, HvError> {
    let table = smaps::read(process::pid(name)?)?;
    let golden = smaps::of(&table, &folder.goldens().to_string_lossy(), Place::Within);
    let kib = |field| golden.iter().filter_map(|mapping| mapping.kib(field)).sum::<u64>();
    let of_files = kib("Pss").saturating_sub(kib("Anonymous"));
    Ok(Usage {
        unshared_bytes: smaps::total(&table, "Pss:").saturating_sub(of_files) << 10,
        resident_bytes: smaps::total(&table, "Rss:") << 10,
    })
}

/// Waits for the lock of the machine: a creation or a reset that is under way applies the limits of
/// its own spec.
pub fn update_limits(
    Host { folder, locks, monitors, .. }: &Host,
    conn: &Connect,
    name: &DomainName,
    limits: &MachineLimits,
    wanted: Wanted<'_>,
) -> Result<Option<String>, HvError> {
    locks.with(name.as_str(), || {
        still(wanted, "change a machine's limits")?;
        let domain = domain::get(conn, name)?;
        let change = || limits_in_force::change(&domain, &folder.machine(name), limits);
        monitors.beside(name, "limit", change)
    })
}

pub fn pause(
    Host { folder, at_work, monitors, .. }: &Host,
    conn: &Connect,
    name: &DomainName,
) -> Result<(), HvError> {
    let domain = domain::get(conn, name)?;
    match observe::state_of(folder, at_work, &domain, name)? {
        PowerState::Paused => Ok(()),
        PowerState::Running => monitors.alone(name, "pause", || suspend(&domain, name)),
        PowerState::Absent => Err(HvError::NoSuchMachine(name.clone())),
        PowerState::Dead { why } => {
            Err(HvError::Refused { what: format!("pause machine {name}"), detail: why })
        }
    }
}

fn suspend(domain: &Domain, name: &DomainName) -> Result<(), HvError> {
    domain.suspend().map(drop).map_err(refused(format!("pause machine {name}")))
}

/// The holder of the lock may wait for a QEMU that does not answer any more. So by force, QEMU goes
/// first.
pub fn destroy(
    host: &Host,
    conn: &Connect,
    name: &DomainName,
    how: Stop,
    wanted: Wanted<'_>,
) -> Result<(), HvError> {
    let held = || {
        if how == Stop::Force
            && wanted()
            && let Ok(Some(domain)) = domain::find(conn, name)
            && let Err(error) = domain::kill(&domain)
        {
            tracing::warn!(%name, error = &error as &dyn std::error::Error,
                "a machine that somebody works on could not be ended");
        }
    };
    host.locks.with_or(name.as_str(), held, || {
        still(wanted, "destroy a machine")?;
        discard(host, conn, name, how)
    })
}

/// Like [`destroy`], for callers that hold the machine's lock.
pub fn discard(host: &Host, conn: &Connect, name: &DomainName, how: Stop) -> Result<(), HvError> {
    let Some(domain) = domain::find(conn, name)? else {
        host.at_work.remove(name);
        links::gone(&host.firewall, name);
        return remove_files(&host.folder, name);
    };
    let record = domain::record(&domain)?;
    if let Some(record) = &record {
        host.firewall.machines().note(record);
    }
    links::gone(&host.firewall, name);
    domain::end(&domain, how, host.config.stop_timeout)?;
    host.at_work.remove(name);
    // The unfinished golden of a template goes with it: its memory file alone may take gigabytes.
    if let Some(template) = record.filter(|r| r.kind == MachineKind::Template) {
        remove_tree(&host.folder.half_golden(&template.golden).0)?;
    }
    remove_files(&host.folder, name)
}

/// The share first: a folder below which something is mounted can't be removed.
pub fn remove_files(folder: &StateFolder, name: &DomainName) -> Result<(), HvError> {
    let dir = folder.machine(name);
    share::unmount(&dir.share())?;
    remove_tree(&dir.0)
}
