//! Finds the best tier of this host: each is tried with a machine of its own before it is offered.
//!
//! A proof that cannot fail proves nothing. So the machine is first reset with one step left out,
//! and the proof must find just that. Only then its verdict on an honest reset counts.

use std::time::{Duration, Instant};

use agentvm_core::names::GoldenKey;
use agentvm_types::report;
use virt::connect::Connect;

use super::golden_caches::GoldenCaches;
use super::in_place;
use crate::libvirt::connection::domain;
use crate::libvirt::connection::lanes::ALWAYS;
use crate::libvirt::host::state::Host;
use crate::libvirt::machine::{create, power, self_test_record};
use crate::libvirt::qemu::process;
use crate::libvirt::qemu::smaps::{self, Place};
use crate::libvirt::store::goldens::{self, Whole};
use crate::sabotage::Sabotage;
use crate::{HvError, MachineSpec, Proof, Stop, Tier, TierReport};

/// So long may a guest take to write to a page.
const DIRTY: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// The verdict on a golden; found out once.
pub fn get(
    host: &Host,
    caches: &GoldenCaches,
    conn: &Connect,
    key: &GoldenKey,
) -> Result<TierReport, HvError> {
    if let Some(known) = caches.tiers(key) {
        return Ok(known);
    }
    // One test at a time: a caller that comes meanwhile gets its result.
    host.locks.with("self-test", || {
        if let Some(known) = caches.tiers(key) {
            return Ok(known);
        }
        let whole = goldens::open(&host.folder, key)?;
        let began = Instant::now();
        let found = test(host, caches, conn, &whole)?;
        tracing::info!(golden = %key, best = found.tier.as_str(), why = found.why_not_better,
            took = ?began.elapsed(), "self-test");
        caches.keep_tiers(key, &found);
        Ok(found)
    })
}

fn test(
    host: &Host,
    caches: &GoldenCaches,
    conn: &Connect,
    whole: &Whole,
) -> Result<TierReport, HvError> {
    let spec = self_test_record::spec(&host.config.instance, whole);
    let marker = self_test_record::marker(&spec.record.name);
    let at_work = host.at_work.guard(&marker);
    let test = SelfTest { host, caches, conn, spec, whole };
    // The result holds for long. A failure may come from the moment (a host under load, a libvirtd
    // that restarts), so the test runs a second time.
    let found = match test.attempt() {
        Ok(found) if found.tier != Tier::InPlace && host.preload.is_ok() => test.attempt(),
        found => found,
    };
    let gone = test.destroy();
    drop(at_work);
    let found = found?;
    gone.map(|()| found)
}

/// A self-test, with the machine that it makes.
struct SelfTest<'a> {
    host: &'a Host,
    caches: &'a GoldenCaches,
    conn: &'a Connect,
    spec: MachineSpec,
    whole: &'a Whole,
}

impl SelfTest<'_> {
    /// Destroys a machine that a killed operator left, then tests with a new one.
    fn attempt(&self) -> Result<TierReport, HvError> {
        self.destroy()?;
        self.best()
    }

    fn destroy(&self) -> Result<(), HvError> {
        power::destroy(self.host, self.conn, &self.spec.record.name, Stop::Force, ALWAYS)
    }

    fn reset(&self, sabotage: Sabotage) -> Result<Proof, HvError> {
        in_place::reset(self.host, self.caches, self.conn, &self.spec, sabotage, ALWAYS)
    }

    fn best(&self) -> Result<TierReport, HvError> {
        match create::create(self.host, self.conn, &self.spec, ALWAYS) {
            Ok(()) => {}
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => return self.boot(&report(&error)),
        }
        match self.in_place() {
            Ok(()) => Ok(TierReport::in_place()),
            Err(Failure::Verdict(why)) => {
                Ok(TierReport::limited_to(Tier::Fresh, format!("InPlace: {why}")))
            }
            Err(Failure::NoVerdict(error)) => Err(error),
        }
    }

    /// The last resort: nothing of a golden but its disks.
    fn boot(&self, why: &str) -> Result<TierReport, HvError> {
        let spec = MachineSpec { tier: Tier::Boot, ..self.spec.clone() };
        create::create(self.host, self.conn, &spec, ALWAYS)?;
        Ok(TierReport::limited_to(Tier::Boot, format!("Fresh: {why}")))
    }

    fn in_place(&self) -> Result<(), Failure> {
        self.host.preload.clone()?;
        process::pid(&self.spec.record.name)?;
        self.run_until_dirty()?;
        for (sabotage, part) in Sabotage::OF_SELF_TEST {
            self.finds(sabotage, part)?;
        }
        self.reset(Sabotage::None)?;
        Ok(())
    }

    /// A sabotaged reset must fail for its own reason and no other. If the memory stayed, QEMU may
    /// notice it too: its rings do not fit the devices that were loaded.
    fn finds(&self, sabotage: Sabotage, part: &str) -> Result<(), Failure> {
        let proof = match self.reset(sabotage) {
            Ok(_) => return Err(format!("the proof did not notice a fault in the {part}").into()),
            Err(HvError::NotProven { proof, .. }) => proof,
            Err(other) => return Err(other.into()),
        };
        let expected =
            |name: &str| name == part || (sabotage == Sabotage::SkipDrop && name == "monitor");
        let failed = || {
            proof
                .checks
                .iter()
                .filter_map(|check| Some((&check.name, check.result.as_ref().err()?)))
        };
        if let Some((name, why)) = failed().find(|(name, _)| !expected(name)) {
            return Err(format!("the self-test failed in {name}: {why}").into());
        }
        if !failed().any(|(name, _)| name == part) {
            return Err(format!("the proof did not notice a fault in the {part}").into());
        }
        Ok(())
    }

    fn run_until_dirty(&self) -> Result<(), Failure> {
        let Self { host, conn, .. } = *self;
        let name = &self.spec.record.name;
        let pid = process::pid(name)?;
        let memory = self.whole.dir.memory();
        power::resume(host, conn, name, ALWAYS)?;
        let deadline = Instant::now() + DIRTY;
        loop {
            let table = smaps::read(pid)?;
            let mappings = smaps::of(&table, &memory.to_string_lossy(), Place::File);
            if mappings.iter().any(|mapping| mapping.kib("Anonymous").is_some_and(|kib| kib > 0)) {
                break;
            }
            if Instant::now() > deadline {
                return Err("the self-test's machine wrote nothing to its memory"
                    .to_owned()
                    .into());
            }
            std::thread::sleep(POLL);
        }
        let domain = domain::get(conn, name)?;
        Ok(domain.suspend().map_err(domain::refused("pause a machine"))?)
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
    /// An unreadable file is not a passing fault here: this process cannot see QEMU's process.
    fn from(error: HvError) -> Self {
        match error {
            HvError::Unavailable { .. }
            | HvError::OutcomeUnknown { .. }
            | HvError::Killed { .. }
            | HvError::NoCapacity { .. } => Self::NoVerdict(error),
            other => Self::Verdict(format!("the self-test failed: {}", report(&other))),
        }
    }
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
