//! Makes a machine from a golden in a fresh QEMU process: its memory is a private mapping of the
//! golden's, its disk a copy of the overlay.
//!
//! `reset/in_place.rs` resets the process instead. Where a host cannot load the golden's state, a
//! machine boots from the golden's disks.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::time::Instant;

use serde_json::json;
use virt::connect::Connect;
use virt::domain::Domain;

use super::{limits_in_force, observe, power, start};
use crate::files::{io, write_secret};
use crate::libvirt::connection::domain;
use crate::libvirt::connection::lanes::{Wanted, still};
use crate::libvirt::host::state::Host;
use crate::libvirt::qemu::{disk, monitor, process};
use crate::libvirt::store::goldens::{self, Whole};
use crate::libvirt::xml::domain::{DomainSpec, Memory, Preload};
use crate::libvirt::xml::interface::Plug;
use crate::libvirt::xml::metadata;
use crate::workspace::share;
use crate::{CreateStep, HvError, MachineSpec, PowerState, Step, Stop, Tier};

/// The memory of a machine before its guest does anything: QEMU itself and its translated code.
const PROCESS_MIB: u64 = 128;
/// The space of an empty share's file system, and some air.
const SLACK_BYTES: u64 = 64 << 20;

pub fn create(
    host: &Host,
    conn: &Connect,
    spec: &MachineSpec,
    wanted: Wanted<'_>,
) -> Result<(), HvError> {
    let name = &spec.record.name;
    host.locks.with(name.as_str(), || {
        still(wanted, "create a machine")?;
        if is_there(host, conn, spec)? {
            return Ok(());
        }
        let whole = goldens::open(&host.folder, &spec.record.golden)?;
        whole.captured.fits(&spec.record)?;
        let _at_work = host.at_work.guard(name);
        let made = Creation { host, conn, spec, whole: &whole, domain: None }.run();
        let full = |error| disk::or_full(error, "create a machine", host.folder.root());
        made.map_err(full).inspect_err(|error| {
            if matches!(error, HvError::Killed { .. }) {
                return;
            }
            if let Err(error) = power::discard(host, conn, name, Stop::Force) {
                tracing::warn!(%name, error = &error as &dyn std::error::Error,
                    "a failed machine is left to the next sweep");
            }
        })
    })
}

/// This incarnation lives already: nothing to do. The remains of an interrupted creation make room.
fn is_there(host: &Host, conn: &Connect, spec: &MachineSpec) -> Result<bool, HvError> {
    let name = &spec.record.name;
    let Some(there) = domain::find(conn, name)? else {
        power::remove_files(&host.folder, name)?;
        return Ok(false);
    };
    let record = observe::record(&host.folder, &there)?;
    spec.record.refuse(record.as_ref())?;
    if record.is_none_or(|record| record.nonce != spec.record.nonce) {
        return Err(HvError::AlreadyExists(name.clone()));
    }
    if matches!(
        observe::state(&host.folder, &host.at_work, conn, name)?,
        PowerState::Paused | PowerState::Running
    ) {
        return Ok(true);
    }
    power::discard(host, conn, name, Stop::Force)?;
    Ok(false)
}

struct Creation<'a> {
    host: &'a Host,
    conn: &'a Connect,
    spec: &'a MachineSpec,
    whole: &'a Whole,
    domain: Option<Domain>,
}

impl Creation<'_> {
    fn run(mut self) -> Result<(), HvError> {
        let name = &self.spec.record.name;
        let mut took = Vec::new();
        for step in CreateStep::ALL {
            self.host.config.on_step.permit(name, Step::Create(step))?;
            let began = Instant::now();
            match step {
                CreateStep::LayOut => self.lay_out()?,
                CreateStep::Start => self.start()?,
                CreateStep::Load => self.load()?,
                CreateStep::Ready => self.ready()?,
            }
            took.push((step, began.elapsed()));
        }
        tracing::debug!(%name, ?took, "machine created");
        Ok(())
    }

    fn start(&mut self) -> Result<(), HvError> {
        let Self { host, conn, spec, whole, .. } = *self;
        let started = start::paused(host, conn, &spec.record, &whole.captured, |plug| {
            self.domain_spec(plug)
        })?;
        self.domain = Some(started);
        Ok(())
    }

    /// A machine that boots has nothing to load.
    fn load(&self) -> Result<(), HvError> {
        let Some(domain) = self.domain.as_ref().filter(|_| self.spec.tier != Tier::Boot) else {
            return Ok(());
        };
        monitor::ignore_shared(domain)?;
        if self.spec.record.nic.is_some() {
            monitor::announce_nothing(domain)?;
        }
        let uri = format!("file:{}", self.whole.dir.state().display());
        monitor::command(domain, "migrate-incoming", &json!({ "uri": uri }))?;
        monitor::wait_migrated(domain, Instant::now() + self.host.config.start_timeout)
    }

    fn ready(&self) -> Result<(), HvError> {
        let name = &self.spec.record.name;
        let dir = self.host.folder.machine(name);
        // A process that this one cannot see (in a container, for example) can never be proven
        // later.
        if let Err(error) = process::remember(&dir, name) {
            tracing::debug!(%name, error = &error as &dyn std::error::Error, "no resets in place");
        }
        fs::write(dir.ready(), "").map_err(io("write", &dir.ready()))
    }

    fn lay_out(&self) -> Result<(), HvError> {
        let Self { host, spec, whole, .. } = self;
        let dir = host.folder.machine(&spec.record.name);
        let overlay_bytes = goldens::allocated(&whole.dir.snapshot());
        // A machine that boots has RAM of its own, and loads nothing of the golden's.
        let own_mib = if spec.tier == Tier::Boot {
            u64::from(whole.captured.resources.memory_mib)
        } else {
            0
        };
        disk::budget(
            "create a machine",
            host.folder.root(),
            overlay_bytes + SLACK_BYTES,
            PROCESS_MIB + own_mib,
        )?;
        let user = host.users.make_machine(&spec.record.name)?;
        if self.preload().is_some() {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(dir.reset())
                .map_err(io("make", &dir.reset()))?;
            chown(dir.reset(), Some(user.uid), Some(user.gid))
                .map_err(io("give to QEMU's user", &dir.reset()))?;
        }
        write_secret(&dir.token(), spec.record.token.expose())?;
        limits_in_force::remember(&dir, &spec.limits)?;
        fs::copy(whole.dir.snapshot(), dir.overlay())
            .map_err(io("copy the golden's overlay to", &dir.overlay()))?;
        user.own(&dir.overlay())?;
        share::mount(
            &dir.share_image(),
            &dir.share(),
            spec.share_bytes,
            host.users.mapping(&spec.record.name),
        )
    }

    fn preload(&self) -> Option<Preload> {
        let Self { host, spec, .. } = self;
        let library = host.preload.clone().ok().filter(|_| spec.tier != Tier::Boot)?;
        Some(Preload { library, socket: host.folder.machine(&spec.record.name).reset_socket() })
    }

    fn domain_spec(&self, plug: Option<Plug>) -> Result<DomainSpec, HvError> {
        let Self { host, spec, whole, .. } = self;
        let dir = host.folder.machine(&spec.record.name);
        if whole.captured.kvm {
            host.users.open_kvm()?;
        }
        Ok(DomainSpec {
            name: spec.record.name.clone(),
            nonce: spec.record.nonce.clone(),
            kvm: whole.captured.kvm,
            emulator: host.config.emulator.clone(),
            resources: whole.captured.resources,
            kernel: whole.dir.kernel(),
            initrd: whole.dir.initrd(),
            cmdline: whole.captured.cmdline.clone(),
            overlay: dir.overlay(),
            share: dir.share(),
            channel: dir.channel(),
            console: dir.console(),
            memory: match spec.tier {
                Tier::Boot => Memory::Own,
                Tier::InPlace | Tier::Fresh => {
                    Memory::Private { file: whole.dir.memory(), preload: self.preload() }
                }
            },
            vsock: whole.captured.vsock,
            plug,
            user: host.users.of(&spec.record.name),
            limits: spec.limits,
            metadata: metadata::element(&spec.record)?,
        })
    }
}
