//! Machines without agentvm's recipe, for comparison: an ordinary domain, and libvirt's ways to an
//! earlier state. Only `agentvm bench` makes them. The sweep takes the remains of a crashed bench
//! for debris.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use agentvm_core::names::DomainName;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::sys;

use super::connection::domain::{self, refused};
use super::handle::Libvirt;
use super::host::state::Host;
use super::machine::power;
use super::qemu::{disk, monitor};
use super::store::image::Image;
use super::store::state_folder::{MachineDir, StateFolder};
use super::xml::baseline::BaselineXml;
use crate::files::{io, run};
use crate::{Accelerator, HvError, Resources};

const SNAPSHOT: &str = "golden";
/// A snapshot writes all of a guest's memory, a revert reads it.
const WITHIN: Duration = Duration::from_mins(3);

/// An ordinary domain. Connect to its agent, pause and resume it as any machine, by its name.
#[derive(Clone, Debug)]
pub struct Baseline {
    libvirt: Libvirt,
    name: DomainName,
    image: PathBuf,
    resources: Resources,
}

impl Baseline {
    /// Nothing is made yet. `image` is the folder of the guest image.
    pub fn new(libvirt: &Libvirt, name: DomainName, image: PathBuf, resources: Resources) -> Self {
        Self { libvirt: libvirt.clone(), name, image, resources }
    }

    pub fn name(&self) -> &DomainName {
        &self.name
    }

    /// Starts it on an empty disk, without its earlier data. Returns when its process runs.
    pub async fn boot(&self) -> Result<(), HvError> {
        self.call("boot an ordinary domain", boot).await
    }

    /// Takes an internal snapshot of the running guest: memory, devices and disk.
    pub async fn snapshot(&self) -> Result<(), HvError> {
        self.call("take a snapshot", |this, _, conn| {
            let xml = format!("<domainsnapshot><name>{SNAPSHOT}</name></domainsnapshot>");
            let taken =
                domain::get(conn, &this.name)?.create_snapshot_xml(&xml, sys::VIR_DOMAIN_NONE);
            taken.map(drop).map_err(refused("take a snapshot"))
        })
        .await
    }

    /// `virDomainRevertToSnapshot`: the guest runs again when this returns.
    pub async fn revert(&self) -> Result<(), HvError> {
        self.call("revert to a snapshot", |this, _, conn| {
            let snapshot =
                Domain::lookup_snapshot_by_name(&domain::get(conn, &this.name)?, SNAPSHOT, 0);
            let reverted = snapshot
                .and_then(|snapshot| snapshot.revert(sys::VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING));
            reverted.map_err(refused("revert to a snapshot"))
        })
        .await
    }

    /// Writes the running guest to a file, with a copy of its disk beside it, and lets it go on.
    pub async fn save(&self) -> Result<(), HvError> {
        self.call("save a domain", |this, host, conn| {
            let dir = host.folder.machine(&this.name);
            // The binding has no call for it, and its time does not count.
            let mut save = Command::new("virsh");
            save.args(["-q", "-c", &host.config.uri, "save", this.name.as_str()]).arg(saved(&dir));
            run("save a domain", &mut save)?;
            fs::copy(dir.overlay(), kept(&dir)).map_err(io("copy", &dir.overlay()))?;
            restore(this, &host.folder, conn)
        })
        .await
    }

    /// `virDomainDestroy`, its old disk, `virDomainRestore`: the guest runs again when this
    /// returns.
    pub async fn restore(&self) -> Result<(), HvError> {
        self.call("restore a domain", |this, host, conn| {
            domain::get(conn, &this.name)?.destroy().map_err(refused("destroy a domain"))?;
            let dir = host.folder.machine(&this.name);
            fs::copy(kept(&dir), dir.overlay()).map_err(io("copy", &dir.overlay()))?;
            restore(this, &host.folder, conn)
        })
        .await
    }

    /// Ends it and removes all of it. Absent is fine.
    pub async fn remove(&self) -> Result<(), HvError> {
        self.call("remove an ordinary domain", |this, host, conn| remove(this, &host.folder, conn))
            .await
    }

    async fn call<T: Send + 'static>(
        &self,
        what: &str,
        job: impl FnOnce(&Self, &Host, &Connect) -> Result<T, HvError> + Send + 'static,
    ) -> Result<T, HvError> {
        let this = self.clone();
        self.libvirt.build(what, WITHIN, move |host, conn| job(&this, host, conn)).await
    }
}

fn saved(dir: &MachineDir) -> PathBuf {
    dir.0.join("saved")
}

/// The disk that belongs to the saved memory.
fn kept(dir: &MachineDir) -> PathBuf {
    dir.0.join("saved.qcow2")
}

fn boot(this: &Baseline, host: &Host, conn: &Connect) -> Result<(), HvError> {
    remove(this, &host.folder, conn)?;
    let image = Image::open(&this.image)?;
    let (dir, user) = (host.folder.machine(&this.name), host.users.shared());
    user.make_folder(&dir.0)?;
    disk::create_overlay(&dir.overlay(), &image.rootfs, "raw", this.resources.disk_gib)?;
    user.own(&dir.overlay())?;
    let xml = BaselineXml {
        name: this.name.clone(),
        kvm: host.facts.get(conn)?.accelerator == Accelerator::Kvm,
        emulator: host.config.emulator.clone(),
        resources: this.resources,
        kernel: image.kernel,
        initrd: image.initrd,
        cmdline: image.cmdline,
        dir: dir.clone(),
        user,
    };
    domain::start(conn, &this.name, &xml.render()?, false)?;
    fs::write(dir.ready(), "").map_err(io("write", &dir.ready()))
}

fn restore(this: &Baseline, folder: &StateFolder, conn: &Connect) -> Result<(), HvError> {
    let image = saved(&folder.machine(&this.name));
    conn.restore_domain(&image.to_string_lossy()).map_err(refused("restore a domain"))
}

fn remove(this: &Baseline, folder: &StateFolder, conn: &Connect) -> Result<(), HvError> {
    if let Some(domain) = domain::find(conn, &this.name)? {
        if domain.is_active().unwrap_or(false) {
            // It ends like our machines: that is faster than libvirt's own way.
            monitor::quit(&domain);
            let _ = domain::wait(&domain, Duration::from_secs(2), |state| {
                *state != crate::PowerState::Running
            });
            let _ = domain.destroy();
        }
        let flags = sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
        domain.undefine_flags(flags).map_err(refused("forget an ordinary domain"))?;
    }
    power::remove_files(folder, &this.name)
}
