//! A machine from a golden in a fresh QEMU process: its memory a private mapping of the golden's, its disk a copy of the overlay.
//!
//! Reset in place will stand beside this: it brings the same process back to the same state.

use std::fs;
use std::time::Instant;

use serde_json::json;
use virt::connect::Connect;

use super::domain_xml::{DomainSpec, Memory};
use super::golden::{self, Whole};
use super::host::{Host, write_secret};
use super::{disk, domain, machine, metadata, qmp};
use crate::files::io;
use crate::workspace::share;
use crate::{HvError, MachineSpec, PowerState, Stop};

/// What a machine costs before its guest does anything: QEMU itself and its translated code.
const PROCESS_MIB: u64 = 128;
/// What a share's file system takes before anything is in it, and some air.
const SLACK_BYTES: u64 = 64 << 20;

pub fn create(host: &Host, conn: &Connect, spec: &MachineSpec) -> Result<(), HvError> {
    let name = &spec.record.name;
    host.locks.with(name.as_str(), || {
        if is_there(host, conn, spec)? {
            return Ok(());
        }
        let whole = golden::open(host, &spec.record.golden)?;
        host.set_at_work(name, true);
        let made = try_create(host, conn, spec, &whole).inspect_err(|_| {
            if let Err(error) = machine::discard(host, conn, name, Stop::Force) {
                tracing::warn!(%name, error = &error as &dyn std::error::Error, "a failed machine is left to the next sweep");
            }
        });
        host.set_at_work(name, false);
        made
    })
}

/// The same incarnation, alive: done already. What is left of a creation that was interrupted makes room.
fn is_there(host: &Host, conn: &Connect, spec: &MachineSpec) -> Result<bool, HvError> {
    let name = &spec.record.name;
    let Some(there) = domain::find(conn, name)? else {
        machine::remove_files(host, name)?;
        return Ok(false);
    };
    let same = domain::record(&there)?.is_some_and(|r| r.nonce == spec.record.nonce);
    if !same {
        return Err(HvError::AlreadyExists(name.clone()));
    }
    if matches!(machine::state(host, conn, name)?, PowerState::Paused | PowerState::Running) {
        return Ok(true);
    }
    machine::discard(host, conn, name, Stop::Force)?;
    Ok(false)
}

fn try_create(host: &Host, conn: &Connect, spec: &MachineSpec, whole: &Whole) -> Result<(), HvError> {
    let began = Instant::now();
    let deadline = began + host.config.start_timeout;
    let overlay_bytes = golden::allocated(&whole.dir.snapshot());
    disk::budget("create a machine", host.layout.root(), overlay_bytes + SLACK_BYTES, PROCESS_MIB)?;
    lay_out(host, spec, whole)?;
    let laid_out = began.elapsed();
    let xml = domain_spec(host, spec, whole)?.to_xml()?;
    let domain = domain::start(conn, &spec.record.name, &xml, true)?;
    let started = began.elapsed();
    qmp::ignore_shared(&domain)?;
    let uri = format!("file:{}", whole.dir.state().display());
    qmp::command(&domain, "migrate-incoming", &json!({ "uri": uri }))?;
    qmp::wait_migrated(&domain, deadline)?;
    let ready = host.layout.machine(&spec.record.name).ready();
    fs::write(&ready, "").map_err(io("write", &ready))?;
    tracing::debug!(name = %spec.record.name, ?laid_out, ?started, loaded = ?began.elapsed(), "machine created");
    Ok(())
}

fn lay_out(host: &Host, spec: &MachineSpec, whole: &Whole) -> Result<(), HvError> {
    let dir = host.layout.machine(&spec.record.name);
    host.make_folder(&dir.0)?;
    write_secret(&dir.token(), &spec.record.token)?;
    fs::copy(whole.dir.snapshot(), dir.overlay()).map_err(io("copy the golden's overlay to", &dir.overlay()))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(dir.overlay(), mode).map_err(io("open up", &dir.overlay()))?;
    host.give(&dir.overlay())?;
    share::mount(&dir.share_image(), &dir.share(), spec.share_bytes, host.mapping())
}

fn domain_spec(host: &Host, spec: &MachineSpec, whole: &Whole) -> Result<DomainSpec, HvError> {
    let dir = host.layout.machine(&spec.record.name);
    Ok(DomainSpec {
        name: spec.record.name.clone(),
        nonce: spec.record.nonce.clone(),
        kvm: whole.recipe.kvm,
        emulator: host.config.emulator.clone(),
        resources: whole.recipe.resources.clone(),
        kernel: whole.dir.kernel(),
        initrd: whole.dir.initrd(),
        cmdline: whole.recipe.cmdline.clone(),
        overlay: dir.overlay(),
        share: dir.share(),
        channel: dir.channel(),
        console: dir.console(),
        memory: Memory::Private(whole.dir.memory()),
        vsock: whole.recipe.vsock,
        user: (host.user.uid, host.user.gid),
        metadata: metadata::element(&spec.record)?,
    })
}
