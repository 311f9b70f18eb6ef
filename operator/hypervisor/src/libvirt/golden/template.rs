//! Boots the machine that a golden will be captured from. Its memory is a file from the first
//! instruction on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use virt::connect::Connect;

use crate::files::{io, remove_tree, write_json, write_secret};
use crate::libvirt::connection::domain;
use crate::libvirt::host::state::Host;
use crate::libvirt::machine::{observe, power, start};
use crate::libvirt::qemu::disk;
use crate::libvirt::qemu::users::QemuUser;
use crate::libvirt::store::goldens::CapturedLayout;
use crate::libvirt::store::image::Image;
use crate::libvirt::store::state_folder::GoldenDir;
use crate::libvirt::xml::domain::{DomainSpec, Memory};
use crate::libvirt::xml::interface::Plug;
use crate::libvirt::xml::metadata;
use crate::workspace::share;
use crate::{Accelerator, HvError, PowerState, Stop, TemplateSpec};

/// Nothing is put into a template's share; it is there because machines have one.
const SHARE_BYTES: u64 = 16 << 20;
/// The space that setup may use before free space is checked again.
const SETUP_BYTES: u64 = 1 << 30;

/// Boots the template. An equal one that runs already is no error.
pub fn boot(host: &Host, conn: &Connect, spec: &TemplateSpec) -> Result<(), HvError> {
    let name = &spec.record.name;
    host.locks.with(name.as_str(), || {
        if let Some(there) = domain::find(conn, name)? {
            let record = domain::record(&there)?;
            spec.record.refuse(record.as_ref())?;
            let same = record.is_some_and(|record| record.nonce == spec.record.nonce);
            let state = observe::state(&host.folder, &host.at_work, conn, name)?;
            return if same && state == PowerState::Running {
                Ok(())
            } else {
                Err(HvError::AlreadyExists(name.clone()))
            };
        }
        host.at_work.insert(name);
        let template = Template { host, conn, spec };
        template.boot().inspect_err(|_| template.undo())
    })
}

/// A template that is being made.
struct Template<'a> {
    host: &'a Host,
    conn: &'a Connect,
    spec: &'a TemplateSpec,
}

impl Template<'_> {
    fn boot(&self) -> Result<(), HvError> {
        let Self { host, conn, spec } = self;
        let image = Image::open(&spec.image)?;
        let memory_mib = u64::from(spec.resources.memory_mib);
        // The memory file is sparse, and writes to its holes must not meet a full disk: all of it
        // has to fit.
        let needed = (memory_mib << 20) + SETUP_BYTES;
        disk::budget("boot a template", host.folder.root(), needed, memory_mib)?;
        let half = host.folder.half_golden(&spec.record.golden);
        remove_tree(&half.0)?;
        power::remove_files(&host.folder, &spec.record.name)?;
        self.lay_out_machine()?;
        let captured = self.lay_out_golden(&image, &half)?;
        let started = start::paused(host, conn, &spec.record, &captured, |plug| {
            self.domain_spec(plug, &captured, &half)
        })?;
        started.resume().map_err(domain::refused("let a template run"))?;
        let ready = host.folder.machine(&spec.record.name).ready();
        fs::write(&ready, "").map_err(io("write", &ready))
    }

    fn undo(&self) {
        let Self { host, conn, spec } = self;
        let undone = power::discard(host, conn, &spec.record.name, Stop::Force)
            .and_then(|()| remove_tree(&host.folder.half_golden(&spec.record.golden).0));
        if let Err(error) = undone {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a failed template is left to the next sweep"
            );
        }
    }

    fn lay_out_golden(&self, image: &Image, half: &GoldenDir) -> Result<CapturedLayout, HvError> {
        let Self { host, conn, spec } = self;
        let user = host.users.of(&spec.record.name);
        user.make_folder(&half.0)?;
        let rootfs = spec.rootfs.as_deref().unwrap_or(&image.rootfs);
        let bytes = fs::metadata(rootfs).map_err(io("read", rootfs))?.len();
        if bytes > u64::from(spec.resources.disk_gib) << 30 {
            let detail = format!(
                "the root filesystem has {bytes} bytes, the disk {} GiB",
                spec.resources.disk_gib
            );
            return Err(HvError::BadImage { path: rootfs.display().to_string(), detail });
        }
        match &spec.rootfs {
            None => refer(user, rootfs, &half.rootfs())?,
            Some(theirs) => keep(theirs, &half.rootfs())?,
        }
        fs::copy(&image.kernel, half.kernel()).map_err(io("copy", &image.kernel))?;
        fs::copy(&image.initrd, half.initrd()).map_err(io("copy", &image.initrd))?;
        disk::create_overlay(&half.disk(), &half.rootfs(), "raw", spec.resources.disk_gib)?;
        let memory = fs::File::create(half.memory()).map_err(io("make", &half.memory()))?;
        memory
            .set_len(u64::from(spec.resources.memory_mib) << 20)
            .map_err(io("size", &half.memory()))?;
        // QEMU may write to the files that are there, not make others.
        fs::File::create(half.state()).map_err(io("make", &half.state()))?;
        for file in [half.disk(), half.memory(), half.state()] {
            user.own(&file)?;
        }
        let facts = host.facts.get(conn)?;
        let captured = CapturedLayout {
            resources: spec.resources,
            cmdline: image.cmdline.clone(),
            kvm: facts.accelerator == Accelerator::Kvm,
            // docs/decisions/0006: an unused device is a way to the host that a run could use.
            vsock: false,
            devices: spec.record.layout(),
        };
        write_json(&half.captured_layout(), &captured)?;
        Ok(captured)
    }

    fn lay_out_machine(&self) -> Result<(), HvError> {
        let Self { host, spec, .. } = self;
        let dir = host.folder.machine(&spec.record.name);
        host.users.make_machine(&spec.record.name)?;
        write_secret(&dir.token(), spec.record.token.expose())?;
        share::mount(
            &dir.share_image(),
            &dir.share(),
            SHARE_BYTES,
            host.users.mapping(&spec.record.name),
        )
    }

    fn domain_spec(
        &self,
        plug: Option<Plug>,
        captured: &CapturedLayout,
        half: &GoldenDir,
    ) -> Result<DomainSpec, HvError> {
        let Self { host, spec, .. } = self;
        let dir = host.folder.machine(&spec.record.name);
        if captured.kvm {
            host.users.open_kvm()?;
        }
        Ok(DomainSpec {
            name: spec.record.name.clone(),
            nonce: spec.record.nonce.clone(),
            kvm: captured.kvm,
            emulator: host.config.emulator.clone(),
            resources: captured.resources,
            kernel: half.kernel(),
            initrd: half.initrd(),
            cmdline: captured.cmdline.clone(),
            overlay: half.disk(),
            share: dir.share(),
            channel: dir.channel(),
            console: dir.console(),
            memory: Memory::Shared(half.memory()),
            vsock: captured.vsock,
            plug,
            user: host.users.of(&spec.record.name),
            limits: spec.limits,
            metadata: metadata::element(&spec.record)?,
        })
    }
}

/// This is a copy of a user's file: a later change of that file must not change machines.
fn keep(rootfs: &Path, at: &Path) -> Result<(), HvError> {
    fs::copy(rootfs, at).map_err(io("copy", rootfs))?;
    fs::set_permissions(at, fs::Permissions::from_mode(0o444)).map_err(io("protect", at))
}

/// A second name for the file, so that a cleaned image cache costs no golden. Across file systems
/// it is a link to the place.
fn refer(user: QemuUser, rootfs: &Path, at: &Path) -> Result<(), HvError> {
    let rootfs = rootfs.canonicalize().map_err(io("find", rootfs))?;
    if fs::hard_link(&rootfs, at).is_ok() {
        return Ok(());
    }
    user.can_reach(rootfs.parent().unwrap_or(Path::new("/")))?;
    std::os::unix::fs::symlink(&rootfs, at).map_err(io("link to", &rootfs))
}
