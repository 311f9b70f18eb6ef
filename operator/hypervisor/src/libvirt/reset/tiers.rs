//! Which way back to the golden state this host can go: each is tried with a machine of its own before it is offered.
//!
//! A proof that can't fail proves nothing. So the machine is reset with something left undone first, and the proof must find just that;
//! only then does its word on an honest reset count.

use std::time::{Duration, Instant};

use agentvm_core::names::{DomainName, GoldenKey};
use virt::connect::Connect;

use super::in_place::reset;
use crate::libvirt::connection::config::Sabotage;
use crate::libvirt::connection::domain;
use crate::libvirt::connection::lanes::ALWAYS;
use crate::libvirt::host::state::Host;
use crate::libvirt::machine::{create, power, self_test_record};
use crate::libvirt::qemu::process;
use crate::libvirt::qemu::smaps::{self, Place};
use crate::libvirt::store::goldens::{self, Whole};
use crate::locks::lock;
use crate::{HvError, MachineSpec, Stop, Tier, TierReport};

/// So long may a guest take to write to a page.
const DIRTY: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// The verdict on a golden; found out once.
pub fn get(host: &Host, conn: &Connect, key: &GoldenKey) -> Result<TierReport, HvError> {
    let known = || lock(&host.tiers).get(key).cloned();
    if let Some(known) = known() {
        return Ok(known);
    }
    // One at a time: whoever asks meanwhile gets this one's answer.
    host.locks.with("self-test", || {
        if let Some(known) = known() {
            return Ok(known);
        }
        let whole = goldens::open(host, key)?;
        let began = Instant::now();
        let found = test(host, conn, &whole)?;
        tracing::info!(golden = %key, best = found.tier.as_str(), why = found.why_not_better, took = ?began.elapsed(), "self-test");
        lock(&host.tiers).insert(key.clone(), found.clone());
        Ok(found)
    })
}

fn test(host: &Host, conn: &Connect, whole: &Whole) -> Result<TierReport, HvError> {
    let spec = self_test_record::spec(host, whole);
    let name = &spec.record.name;
    let marker = self_test_record::marker(name);
    let at_work = host.at_work(&marker);
    // One that a killed operator left would be in the way.
    let attempt = || {
        power::destroy(host, conn, name, Stop::Force, ALWAYS)
            .and_then(|()| best(host, conn, &spec, whole))
    };
    // The verdict holds for long: what may have been the moment's (a host under load, a libvirtd that restarts) gets a second look.
    let found = match attempt() {
        Ok(found) if found.tier != Tier::InPlace && host.preload.is_ok() => attempt(),
        found => found,
    };
    let gone = power::destroy(host, conn, name, Stop::Force, ALWAYS);
    drop(at_work);
    let found = found?;
    gone.map(|()| found)
}

fn best(
    host: &Host,
    conn: &Connect,
    spec: &MachineSpec,
    whole: &Whole,
) -> Result<TierReport, HvError> {
    match create::create(host, conn, spec, ALWAYS) {
        Ok(()) => {}
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => return boot(host, conn, spec, &error.with_cause()),
    }
    match in_place(host, conn, spec, whole) {
        Ok(()) => Ok(TierReport::in_place()),
        Err(Failure::Verdict(why)) => {
            Ok(TierReport::limited_to(Tier::Fresh, format!("InPlace: {why}")))
        }
        Err(Failure::NoVerdict(error)) => Err(error),
    }
}

/// Why a self-test came to no good end.
#[derive(Debug)]
enum Failure {
    /// This host can't, or can't be seen to.
    Verdict(String),
    /// Something of the moment was in the way: nothing is known.
    NoVerdict(HvError),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Verdict(why)
    }
}

impl From<HvError> for Failure {
    /// A file that can't be read is no matter of the moment here: it is how a process looks that can't be seen from where this runs.
    fn from(error: HvError) -> Self {
        match error {
            HvError::Unavailable { .. }
            | HvError::OutcomeUnknown { .. }
            | HvError::NoCapacity { .. } => Self::NoVerdict(error),
            other => Self::Verdict(format!("the self-test failed: {}", other.with_cause())),
        }
    }
}

/// The last resort: nothing of a golden but its disks.
fn boot(host: &Host, conn: &Connect, spec: &MachineSpec, why: &str) -> Result<TierReport, HvError> {
    create::create(host, conn, &MachineSpec { tier: Tier::Boot, ..spec.clone() }, ALWAYS)?;
    Ok(TierReport::limited_to(Tier::Boot, format!("Fresh: {why}")))
}

fn in_place(host: &Host, conn: &Connect, spec: &MachineSpec, whole: &Whole) -> Result<(), Failure> {
    host.preload.clone()?;
    process::pid(&spec.record.name)?;
    run_until_dirty(host, conn, &spec.record.name, whole)?;
    finds(host, conn, spec, Sabotage::SkipDrop, "memory")?;
    finds(host, conn, spec, Sabotage::TouchDisk, "disk")?;
    reset(host, conn, spec, Sabotage::None, ALWAYS)?;
    Ok(())
}

/// A sabotaged reset must fail for its own reason and no other. Where the memory stayed as it was, QEMU may notice too: rings in it don't
/// fit the devices that were loaded.
fn finds(
    host: &Host,
    conn: &Connect,
    spec: &MachineSpec,
    sabotage: Sabotage,
    part: &str,
) -> Result<(), Failure> {
    let proof = match reset(host, conn, spec, sabotage, ALWAYS) {
        Ok(_) => return Err(format!("the proof did not notice a fault in the {part}").into()),
        Err(HvError::NotProven { proof, .. }) => proof,
        Err(other) => return Err(other.into()),
    };
    let expected =
        |name: &str| name == part || (sabotage == Sabotage::SkipDrop && name == "monitor");
    let failed = || {
        proof.checks.iter().filter_map(|check| Some((&check.name, check.result.as_ref().err()?)))
    };
    if let Some((name, why)) = failed().find(|(name, _)| !expected(name)) {
        return Err(format!("the self-test failed in {name}: {why}").into());
    }
    if !failed().any(|(name, _)| name == part) {
        return Err(format!("the proof did not notice a fault in the {part}").into());
    }
    Ok(())
}

fn run_until_dirty(
    host: &Host,
    conn: &Connect,
    name: &DomainName,
    whole: &Whole,
) -> Result<(), Failure> {
    let pid = process::pid(name)?;
    let memory = whole.dir.memory();
    power::resume(host, conn, name, ALWAYS)?;
    let deadline = Instant::now() + DIRTY;
    loop {
        let table = smaps::read(pid)?;
        let mappings = smaps::of(&table, &memory.to_string_lossy(), Place::File);
        if mappings.iter().any(|mapping| mapping.kib("Anonymous").is_some_and(|kib| kib > 0)) {
            break;
        }
        if Instant::now() > deadline {
            return Err("the self-test's machine wrote nothing to its memory".to_owned().into());
        }
        std::thread::sleep(POLL);
    }
    let domain = domain::get(conn, name)?;
    Ok(domain.suspend().map_err(domain::refused("pause a machine"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_moment_s_is_no_verdict() {
        let gone =
            HvError::Unavailable { uri: "qemu:///x".to_owned(), detail: "restarted".to_owned() };
        assert!(matches!(Failure::from(gone), Failure::NoVerdict(_)));
        let late = HvError::OutcomeUnknown { what: "reset it".to_owned(), seconds: 9 };
        assert!(matches!(Failure::from(late), Failure::NoVerdict(_)));
        let unseen =
            HvError::Io { what: "read".to_owned(), source: std::io::ErrorKind::NotFound.into() };
        assert!(
            matches!(Failure::from(unseen), Failure::Verdict(why) if why.contains("could not read"))
        );
    }
}
