//! Reset in place: the QEMU process is brought back to the golden state, and proven to be in it
//! while it is paused.
//!
//! ```text
//! Enter ─► Stop ─► Drop ─► Load ─► Share ─► Prove ─► Record ─► Ready
//!                    ▲       │ QEMU said something │ a check failed
//!                    └───────┴──────── once ───────┘
//! ```
//! The device reset within Load waits for 9p requests that are in flight. One of those can make
//! QEMU refuse the state, or write its answer to memory that was just dropped; the second round
//! finds none. The machine never runs between Stop and the end, and after an error never again: its
//! `ready` is gone, so that nobody resumes it.

use std::fs;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentvm_core::pool::ResetLimits;
use virt::connect::Connect;
use virt::domain::Domain;

use super::golden_caches::GoldenCaches;
use super::proof::{self, disk::Reference};
use crate::files::{io, write_secret};
use crate::libvirt::connection::domain::{self, refused};
use crate::libvirt::connection::lanes::{Wanted, still};
use crate::libvirt::host::state::Host;
use crate::libvirt::machine::links;
use crate::libvirt::machine::{limits_in_force, observe};
use crate::libvirt::qemu::page_dropper::Library;
use crate::libvirt::qemu::process::{self, Identity};
use crate::libvirt::qemu::{disk, monitor};
use crate::libvirt::store::goldens::{self, Whole};
use crate::libvirt::store::marks;
use crate::libvirt::store::state_folder::{GoldenDir, MachineDir};
use crate::sabotage::Sabotage;
use crate::workspace::share;
use crate::{Check, HvError, MachineRecord, MachineSpec, PowerState, Proof, ResetStep, Step};

/// The first try and the only other one.
const ROUNDS: usize = 2;

struct Reset<'a> {
    host: &'a Host,
    spec: &'a MachineSpec,
    sabotage: Sabotage,
    domain: Domain,
    dir: MachineDir,
    whole: Whole,
    disk: Arc<Reference>,
    process: Identity,
    /// QEMU's answer to the last load.
    monitor: String,
    checks: Vec<Check>,
    steps: Vec<(ResetStep, Duration)>,
}

pub fn reset(
    host: &Host,
    caches: &GoldenCaches,
    conn: &Connect,
    spec: &MachineSpec,
    sabotage: Sabotage,
    wanted: Wanted<'_>,
) -> Result<Proof, HvError> {
    let name = &spec.record.name;
    host.locks.with(name.as_str(), || {
        still(wanted, "reset a machine")?;
        let mut reset = Reset::open(host, caches, conn, spec, sabotage)?;
        let _at_work = host.at_work.guard(name);
        let done = reset.run();
        tracing::debug!(%name, steps = ?reset.steps, error = ?done.as_ref().err(), "machine reset");
        done?;
        Ok(reset.proof())
    })
}

impl<'a> Reset<'a> {
    fn open(
        host: &'a Host,
        caches: &GoldenCaches,
        conn: &Connect,
        spec: &'a MachineSpec,
        sabotage: Sabotage,
    ) -> Result<Self, HvError> {
        let name = &spec.record.name;
        let domain = domain::get(conn, name)?;
        let dir = host.folder.machine(name);
        let refuse = |detail: &str| HvError::Refused {
            what: format!("reset machine {name}"),
            detail: detail.to_owned(),
        };
        let now = observe::record(&host.folder, &domain)?;
        if now.as_ref().is_none_or(|now| is_later(now, &spec.record)) {
            return Err(refuse("it is another one by now"));
        }
        if now.is_some_and(|now| now.nic != spec.record.nic) {
            return Err(refuse("its network device is another one"));
        }
        if marks::is_quarantined(&dir) {
            return Err(refuse("it is quarantined"));
        }
        if !dir.reset().exists() {
            return Err(refuse("it was started without the preloaded library"));
        }
        let process =
            process::remembered(&dir).ok_or_else(|| refuse("its process was never noted"))?;
        let whole = goldens::open(&host.folder, &spec.record.golden)?;
        let disk = caches.disk(&whole.golden.key, &whole.dir)?;
        if let Some(why) = keeps_too_much(&dir, &whole.dir, ResetLimits::default())
            .or_else(|| limits_in_force::outdated(&dir, &spec.limits))
        {
            return Err(HvError::NotResettable { name: name.clone(), why });
        }
        let (checks, steps) = (Vec::new(), Vec::new());
        let monitor = String::new();
        Ok(Self { host, spec, sabotage, domain, dir, whole, disk, process, monitor, checks, steps })
    }

    fn run(&mut self) -> Result<(), HvError> {
        self.step(ResetStep::Enter)?;
        for round in 1..=ROUNDS {
            // This also holds for the second try: a guest that was continued would run on memory
            // that is half the golden's, and end its QEMU.
            self.step(ResetStep::Stop)?;
            self.step(ResetStep::Drop)?;
            self.step(ResetStep::Load)?;
            if !self.monitor.is_empty() && round < ROUNDS {
                continue;
            }
            self.step(ResetStep::Share)?;
            self.step(ResetStep::Prove)?;
            let Some(why) = self.proof().failure() else { break };
            // A self-test sabotages resets to see just this.
            if self.sabotage == Sabotage::None {
                tracing::warn!(name = %self.spec.record.name, round, why, "a proof failed");
            } else {
                tracing::debug!(name = %self.spec.record.name, round, why,
                    "a proof failed, as it should");
            }
        }
        let proof = self.proof();
        if proof.failure().is_some() {
            return Err(HvError::NotProven {
                name: self.spec.record.name.clone(),
                proof: Box::new(proof),
            });
        }
        self.step(ResetStep::Record)?;
        self.step(ResetStep::Ready)
    }

    fn step(&mut self, step: ResetStep) -> Result<(), HvError> {
        self.host.config.on_step.permit(&self.spec.record.name, Step::Reset(step))?;
        let began = Instant::now();
        let root = self.host.folder.root();
        let full = |error| disk::or_full(error, "reset a machine", root);
        let done = match step {
            ResetStep::Enter => self.enter().map_err(full),
            ResetStep::Stop => self.stop(),
            ResetStep::Drop => self.drop_pages(),
            ResetStep::Load => self.load(),
            ResetStep::Share => share::renew(
                &self.spec.record.name,
                &self.dir.share(),
                self.host.users.mapping(&self.spec.record.name),
                ResetLimits::default(),
            ),
            ResetStep::Prove => {
                self.prove();
                Ok(())
            }
            ResetStep::Record => self.record().map_err(full),
            ResetStep::Ready => rename(&self.dir.resetting(), &self.dir.ready()).map_err(full),
        };
        self.steps.push((step, began.elapsed()));
        done
    }

    fn proof(&self) -> Proof {
        Proof { checks: self.checks.clone(), steps: self.steps.clone() }
    }

    /// A reset that failed or was interrupted may be tried again. A machine that was never finished
    /// may not.
    fn enter(&self) -> Result<(), HvError> {
        marks::clear_parked(&self.dir)?;
        links::set_tap_down(&self.host.firewall, &self.spec.record)?;
        match fs::rename(self.dir.ready(), self.dir.resetting()) {
            Err(e) if e.kind() == ErrorKind::NotFound && self.dir.resetting().exists() => Ok(()),
            done => done.map_err(io("take away", &self.dir.ready())),
        }
    }

    /// Until here the guest may end the machine at any time, also between a check and a call: so
    /// the call comes first.
    fn stop(&self) -> Result<(), HvError> {
        let name = &self.spec.record.name;
        let suspend = || Ok(self.domain.suspend());
        let stopped = self.host.monitors.beside(name, "pause", suspend)?;
        let Err(error) = stopped else { return Ok(()) };
        match domain::power(&self.domain)? {
            PowerState::Paused => Ok(()),
            PowerState::Absent => Err(HvError::NoSuchMachine(name.clone())),
            PowerState::Dead { why } => Err(HvError::NotResettable { name: name.clone(), why }),
            PowerState::Running => Err(refused(format!("pause machine {name}"))(error)),
        }
    }

    fn drop_pages(&mut self) -> Result<(), HvError> {
        let library = Library::connect(&self.dir.reset_socket(), self.process.pid)?;
        if self.sabotage == Sabotage::SkipDrop {
            return Ok(());
        }
        library.drop_pages(self.memory_bytes())
    }

    fn load(&mut self) -> Result<(), HvError> {
        let snapshot = if self.sabotage == Sabotage::WrongSnapshot { "nowhere" } else { "golden" };
        self.monitor = monitor::human_text(&self.domain, &format!("loadvm {snapshot}"))?;
        if !self.monitor.is_empty() {
            tracing::debug!(name = %self.spec.record.name, said = self.monitor,
                "QEMU did not load the golden state");
        }
        if self.sabotage == Sabotage::TouchDisk {
            monitor::write_to_disk(&self.domain)?;
        }
        Ok(())
    }

    /// The first finding comes first: after a refused load the others say little.
    fn prove(&mut self) {
        let pid = self.process.pid;
        let check = |name: &str, result| Check { name: name.to_owned(), result };
        let (golden, bytes) = (self.whole.dir.memory(), self.memory_bytes());
        self.checks = std::thread::scope(|scope| {
            // For half of the time the kernel walks page tables; the other checks run meanwhile.
            let memory = scope.spawn(|| proof::flat(proof::memory::check(pid, &golden, bytes)));
            let monitor = proof::monitor::check(&self.domain, &self.monitor)
                .map_err(|why| why.chars().take(500).collect());
            let process = proof::process::check(&self.process);
            let disk = proof::flat(self.disk.check(&self.dir.overlay()));
            let memory =
                memory.join().unwrap_or_else(|_| Err("the look at it was broken off".to_owned()));
            vec![
                check("monitor", monitor),
                check("process", process),
                check("disk", disk),
                check("memory", memory),
            ]
        });
    }

    fn record(&self) -> Result<(), HvError> {
        limits_in_force::change(&self.domain, &self.dir, &self.spec.limits)?;
        write_secret(&self.dir.token(), self.spec.record.token.expose())?;
        marks::set_record(&self.dir, &self.spec.record)
    }

    fn memory_bytes(&self) -> u64 {
        u64::from(self.whole.captured.resources.memory_mib) << 20
    }
}

/// The name belongs to another machine since the reset was asked for.
fn is_later(now: &MachineRecord, meant: &MachineRecord) -> bool {
    now.golden != meant.golden || now.owner_uid != meant.owner_uid || now.created > meant.created
}

/// The reason to replace the machine, where a file of it keeps too much of the host's disk.
fn keeps_too_much(dir: &MachineDir, golden: &GoldenDir, limits: ResetLimits) -> Option<String> {
    let kept = goldens::allocated(&dir.overlay()).max(goldens::allocated(&dir.share_image()));
    limits.keeps_too_much(kept, goldens::allocated(&golden.snapshot()))
}

fn rename(from: &std::path::Path, to: &std::path::Path) -> Result<(), HvError> {
    fs::rename(from, to).map_err(io("rename", from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libvirt::xml::metadata::tests::record;

    #[test]
    fn a_machine_that_was_made_after_the_reset_was_asked_for_is_another() {
        let meant = MachineRecord {
            nonce: agentvm_types::Nonce::from_bytes([2; 16]),
            created: 7,
            ..record("pool")
        };
        assert!(!is_later(&MachineRecord { created: 6, ..record("pool") }, &meant));
        assert!(!is_later(&meant, &meant), "a reset may be asked for again");
        assert!(is_later(&MachineRecord { created: 8, ..record("pool") }, &meant));
        let golden = agentvm_core::names::GoldenKey::derive(&["another"]);
        assert!(is_later(&MachineRecord { golden, created: 7, ..record("pool") }, &meant));
    }

    #[test]
    fn what_a_run_left_on_the_host_s_disk_counts_and_holes_do_not() {
        let (machine, golden) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (dir, golden) =
            (MachineDir(machine.path().to_owned()), GoldenDir(golden.path().to_owned()));
        let limits = ResetLimits::default();
        fs::write(golden.snapshot(), "small").unwrap();
        fs::File::create(dir.share_image()).unwrap().set_len(limits.kept_bytes * 4).unwrap();
        assert_eq!(keeps_too_much(&dir, &golden, limits), None);
        let overlay = fs::File::create(dir.overlay()).unwrap();
        match rustix::fs::fallocate(
            &overlay,
            rustix::fs::FallocateFlags::empty(),
            0,
            limits.kept_bytes + (1 << 20),
        ) {
            Ok(()) => assert!(keeps_too_much(&dir, &golden, limits).unwrap().contains("257 MiB")),
            Err(why) => assert_eq!(why, rustix::io::Errno::OPNOTSUPP, "this file system can't"),
        }
    }
}
