//! Captures a quiesced template as a golden: memory, device state and disks appear under their key
//! all at once, or not at all.
//!
//! The order of the steps matters. The disk-only overlay comes before `savevm`, so that the data of
//! setup stays below it and a machine copies less than a megabyte. `savevm` comes before the
//! migration, because after it the source's disks are inactive. Until the last step everything has
//! a temporary name, so the sweep removes the remains of a crash.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use agentvm_core::names::DomainName;
use serde_json::json;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::sys;

use crate::files::{io, read_json, remove_tree, write_json};
use crate::libvirt::connection::domain::{self, refused};
use crate::libvirt::host::state::Host;
use crate::libvirt::machine::{links, power};
use crate::libvirt::qemu::users::posix_acl;
use crate::libvirt::qemu::{disk, monitor};
use crate::libvirt::reset::golden_caches::GoldenCaches;
use crate::libvirt::store::digest;
use crate::libvirt::store::goldens::{self, CapturedLayout};
use crate::libvirt::store::state_folder::GoldenDir;
use crate::libvirt::xml::element::el;
use crate::{CaptureStep as Step, Golden, HvError, MachineKind, MachineRecord, Stop};

/// Space for the device state, twice, and for the description.
const CAPTURE_BYTES: u64 = 16 << 20;

struct Capture<'a> {
    host: &'a Host,
    caches: &'a GoldenCaches,
    domain: Domain,
    record: MachineRecord,
    captured: CapturedLayout,
    half: GoldenDir,
    whole: GoldenDir,
    deadline: Instant,
    /// The inspection of its agent.
    guest: String,
}

/// All steps; on an error nothing is left, neither template nor files.
pub fn capture(
    host: &Host,
    caches: &GoldenCaches,
    conn: &Connect,
    template: &DomainName,
    guest: &str,
) -> Result<Golden, HvError> {
    host.locks.with(template.as_str(), || {
        let mut capture = Capture::open(host, caches, conn, template)?;
        guest.clone_into(&mut capture.guest);
        let (what, root) = ("capture a golden", host.folder.root());
        let done = disk::budget(what, root, CAPTURE_BYTES, 0)
            .and_then(|()| Step::ALL.into_iter().try_for_each(|step| capture.timed(step)));
        let done = done.map_err(|error| disk::or_full(error, what, root));
        let done = done.and_then(|()| goldens::open(&host.folder, &capture.record.golden));
        if let Err(error) = &done
            && matches!(error, HvError::Killed { .. })
        {
            host.at_work.remove(template);
            return done.map(|whole| whole.golden);
        }
        // After the quit libvirt has forgotten the domain, and with it the owner of these files.
        remove_tree(&capture.half.0)?;
        power::discard(host, conn, template, Stop::Force)?;
        Ok(done?.golden)
    })
}

impl<'a> Capture<'a> {
    fn open(
        host: &'a Host,
        caches: &'a GoldenCaches,
        conn: &Connect,
        template: &DomainName,
    ) -> Result<Self, HvError> {
        let domain = domain::get(conn, template)?;
        let record = domain::record(&domain)?.filter(|r| r.kind == MachineKind::Template);
        let record = record.ok_or_else(|| HvError::NoSuchMachine(template.clone()))?;
        let half = host.folder.half_golden(&record.golden);
        let captured = read_json(&half.captured_layout())
            .ok_or_else(|| HvError::NoSuchMachine(template.clone()))?;
        let (whole, deadline) =
            (host.folder.golden(&record.golden), Instant::now() + host.config.capture_timeout);
        Ok(Self {
            host,
            caches,
            domain,
            record,
            captured,
            half,
            whole,
            deadline,
            guest: String::new(),
        })
    }

    fn timed(&mut self, step: Step) -> Result<(), HvError> {
        self.host.config.on_step.permit(&self.record.name, crate::Step::Capture(step))?;
        let began = Instant::now();
        let done = self.run(step);
        tracing::debug!(template = %self.record.name, ?step, took = ?began.elapsed(), "capture");
        done
    }

    fn run(&mut self, step: Step) -> Result<(), HvError> {
        match step {
            Step::Pause => {
                links::cut(&self.host.firewall, &self.record)?;
                self.domain.suspend().map_err(refused("pause the template"))
            }
            Step::Overlay => self.overlay(),
            Step::SaveSnapshot => {
                monitor::ignore_shared(&self.domain)?;
                monitor::human(&self.domain, "savevm golden")
            }
            Step::SaveState => self.save_state(),
            Step::Quit => self.quit(),
            Step::Seal => self.seal(),
            Step::Describe => self.describe(),
            Step::Publish => self.publish(),
        }
    }

    fn overlay(&self) -> Result<(), HvError> {
        let path = self.half.snapshot();
        disk::create_overlay(&path, &self.half.disk(), "qcow2", self.captured.resources.disk_gib)?;
        self.host.users.of(&self.record.name).own(&path)?;
        let disk = el("disk").attr("name", "vda").attr("snapshot", "external").attr("type", "file");
        let disk = disk
            .child(el("driver").attr("type", "qcow2"))
            .child(el("source").attr("file", path.display()));
        let xml = el("domainsnapshot").child(el("disks").child(disk)).render()?;
        let flags = sys::VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
            | sys::VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
            | sys::VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
            | sys::VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC;
        self.domain
            .create_snapshot_xml(&xml, flags)
            .map(drop)
            .map_err(refused("put an overlay on the template's disk"))
    }

    fn save_state(&self) -> Result<(), HvError> {
        let uri = format!("file:{}", self.half.state().display());
        monitor::command(&self.domain, "migrate", &json!({ "uri": uri }))?;
        monitor::wait_migrated(&self.domain, self.deadline)
    }

    fn quit(&self) -> Result<(), HvError> {
        domain::end(&self.domain, Stop::Force, self.host.config.stop_timeout)
    }

    fn seal(&self) -> Result<(), HvError> {
        disk::point_at(&self.half.snapshot(), &self.whole.disk(), "qcow2")?;
        disk::point_at(&self.half.disk(), &self.whole.rootfs(), "raw")?;
        let files = [
            self.half.memory(),
            self.half.state(),
            self.half.snapshot(),
            self.half.disk(),
            self.half.kernel(),
            self.half.initrd(),
        ];
        for file in &files {
            seal(file, 0o444)?;
        }
        posix_acl::forget(&self.half.0).map_err(|e| io("open up", &self.half.0)(e.into()))?;
        seal(&self.half.0, 0o711)
    }

    fn describe(&self) -> Result<(), HvError> {
        let files = [self.half.memory(), self.half.state(), self.half.snapshot(), self.half.disk()];
        let digest =
            digest::of(&files.each_ref().map(AsRef::as_ref)).map_err(io("digest", &self.half.0))?;
        let booted = fs::metadata(self.half.captured_layout())
            .and_then(|m| m.modified())
            .ok()
            .and_then(|t| t.elapsed().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let golden = Golden {
            key: self.record.golden.clone(),
            digest,
            resources: self.captured.resources,
            layout: self.captured.devices,
            memory_bytes: goldens::allocated(&self.half.memory()),
            captured: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            boot_millis: booted.map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            namespace: self.record.namespace.clone(),
            owner: self.record.owner.clone(),
            owner_uid: self.record.owner_uid.clone(),
            guest: self.guest.clone(),
        };
        write_json(&self.half.golden(), &golden)
    }

    /// A golden of this key that is whole already stays: machines may be running from it.
    fn publish(&self) -> Result<(), HvError> {
        if goldens::open(&self.host.folder, &self.record.golden).is_ok() {
            return remove_tree(&self.half.0);
        }
        // Cached facts of a broken golden are not true of this one.
        self.caches.forget(&self.record.golden);
        remove_tree(&self.whole.0)?;
        sync(&self.half.0)?;
        fs::rename(&self.half.0, &self.whole.0).map_err(io("publish", &self.whole.0))?;
        sync(&self.host.folder.goldens())
    }
}

fn seal(path: &Path, mode: u32) -> Result<(), HvError> {
    chown(path, Some(0), Some(0)).map_err(io("take over", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io("seal", path))?;
    sync(path)
}

fn sync(path: &Path) -> Result<(), HvError> {
    fs::File::open(path).and_then(|f| f.sync_all()).map_err(io("write out", path))
}
