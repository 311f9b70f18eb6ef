//! What every job on this host needs: configuration, paths, QEMU's user, and what is going on right now.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use agentvm_core::names::{DomainName, GoldenKey};

use crate::files::io;
use crate::firewall::Firewall;
use crate::libvirt::connection::config::LibvirtConfig;
use crate::libvirt::qemu::preload;
use crate::libvirt::qemu::qemu_user::QemuUser;
use crate::libvirt::qemu::slot_user;
use crate::libvirt::reset::proof::disk::Reference;
use crate::libvirt::store::state_folder::{GoldenDir, StateFolder};
use crate::libvirt::xml::network::Ours;
use crate::libvirt::xml::nwfilter::Kind;
use crate::locks::{Locks, lock};
use crate::workspace::share;
use crate::workspace::virtfs::Mapping;
use crate::{HookAction, HostFacts, HvError, Step, TierReport};

#[derive(Debug)]
pub struct Host {
    pub config: LibvirtConfig,
    pub folder: StateFolder,
    /// Who QEMU runs as where nobody says otherwise.
    pub user: QemuUser,
    /// Held while a machine gets a user of its own.
    choosing: Mutex<()>,
    pub locks: Locks,
    pub firewall: Arc<Firewall>,
    /// The machines' network, once it has been seen.
    pub network: Mutex<Option<Ours>>,
    /// The names of libvirt's filters that this process has defined.
    pub filters: Mutex<HashMap<Kind, String>>,
    /// Machines that this process is making at this moment, and templates that it has booted: not debris.
    at_work: Mutex<HashSet<String>>,
    pub facts: OnceLock<HostFacts>,
    /// The preloaded library where QEMU can read it, or why there is none.
    pub preload: Result<PathBuf, String>,
    /// What the goldens' disks are compared with.
    disks: Mutex<HashMap<GoldenKey, Arc<Reference>>>,
    /// The verdicts of the self-tests.
    pub tiers: Mutex<HashMap<GoldenKey, TierReport>>,
}

impl Host {
    /// Makes the state directory and checks that QEMU can use it.
    pub fn prepare(config: LibvirtConfig) -> Result<Self, HvError> {
        if !rustix::process::geteuid().is_root() {
            return Err(HvError::Refused {
                what: "prepare the host for machines".to_owned(),
                detail: "it takes root to mount shares and to hand files to QEMU's user; run agentvm as root"
                    .to_owned(),
            });
        }
        let root = &config.state_dir;
        for folder in [root.clone(), root.join("machines"), root.join("golden")] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(&folder);
            made.map_err(io("make", &folder))?;
        }
        let root = root.canonicalize().map_err(io("find", root))?;
        let (folder, user) = (StateFolder::new(root.clone()), QemuUser::find()?);
        if folder.too_long_by() > 0 {
            return Err(HvError::Refused {
                what: format!("keep machines in {}", root.display()),
                detail: format!(
                    "the path is {} characters too long for sockets; choose a shorter one",
                    folder.too_long_by()
                ),
            });
        }
        user.can_reach(&folder.machines())?;
        if let Some(first) = config.first_uid {
            slot_user::check_block(first)?;
            QemuUser { uid: first, ..user }.can_reach(&folder.machines())?;
        }
        share::propagate(&folder.machines())?;
        let preload = preload::install(config.preload.as_deref(), &folder);
        Ok(Self {
            firewall: Arc::new(Firewall::confining(
                &config.instance,
                config.first_uid.map(slot_user::block),
            )),
            network: Mutex::default(),
            filters: Mutex::default(),
            config,
            folder,
            user,
            choosing: Mutex::default(),
            preload,
            locks: Locks::default(),
            at_work: Mutex::default(),
            facts: OnceLock::new(),
            disks: Mutex::default(),
            tiers: Mutex::default(),
        })
    }

    /// What a golden's disk leads to; read once, for its files don't change.
    pub fn golden_disk(&self, key: &GoldenKey, dir: &GoldenDir) -> Result<Arc<Reference>, HvError> {
        if let Some(known) = lock(&self.disks).get(key) {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(Reference::open(&dir.snapshot())?);
        lock(&self.disks).insert(key.clone(), Arc::clone(&read));
        Ok(read)
    }

    /// A golden of the same key that is captured later is another.
    pub fn forget_golden(&self, key: &GoldenKey) {
        lock(&self.disks).remove(key);
        lock(&self.tiers).remove(key);
    }

    /// How files get into a machine's share.
    pub fn mapping(&self, name: &DomainName) -> Mapping {
        let QemuUser { uid, gid } = self.user_of(name);
        Mapping::Virtfs { uid, gid }
    }

    /// Who a machine's QEMU runs as.
    pub fn user_of(&self, name: &DomainName) -> QemuUser {
        slot_user::of(&self.folder, name).map_or(self.user, |uid| QemuUser { uid, ..self.user })
    }

    /// The folder of a machine, and who its QEMU will run as.
    pub fn make_machine(&self, name: &DomainName) -> Result<QemuUser, HvError> {
        let folder = self.folder.machine(name).0;
        let Some(first) = self.config.first_uid else {
            self.user.make_folder(&folder)?;
            return Ok(self.user);
        };
        let _choosing = lock(&self.choosing);
        let uid = slot_user::choose(&self.folder, name, first)?;
        let user = QemuUser { uid, ..self.user };
        user.make_folder(&folder)?;
        slot_user::write(&self.folder, name, uid)?;
        Ok(user)
    }

    /// Before a machine starts with KVM.
    pub fn open_kvm(&self) -> Result<(), HvError> {
        if self.config.first_uid.is_none() {
            return Ok(());
        }
        self.user.open_device(Path::new("/dev/kvm"))
    }

    /// Asks whoever injects faults whether `step` may be taken.
    pub fn before(&self, name: &DomainName, step: Step) -> Result<(), HvError> {
        match self.config.on_step.before(name, step) {
            HookAction::Go => Ok(()),
            HookAction::Die => {
                Err(HvError::OutcomeUnknown { what: format!("{step:?} of {name}"), seconds: 0 })
            }
        }
    }

    pub fn set_at_work(&self, name: &DomainName, working: bool) {
        let mut all = lock(&self.at_work);
        if working {
            all.insert(name.as_str().to_owned());
        } else {
            all.remove(name.as_str());
        }
    }

    /// As [`Self::set_at_work`], until what comes back is dropped: also when the job panics.
    pub fn at_work(&self, name: &DomainName) -> AtWork<'_> {
        self.set_at_work(name, true);
        AtWork(self, name.clone())
    }

    pub fn is_at_work(&self, name: &DomainName) -> bool {
        lock(&self.at_work).contains(name.as_str())
    }
}

/// Something is done to a machine as long as this lives.
#[derive(Debug)]
pub struct AtWork<'a>(&'a Host, DomainName);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.set_at_work(&self.1, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentvm_core::names::InstanceId;
    use std::os::unix::fs::PermissionsExt;

    fn refusal(dir: std::path::PathBuf) -> String {
        Host::prepare(LibvirtConfig::new(dir, InstanceId::for_state_dir("/x")))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_folder_that_cannot_serve_is_refused_with_the_mend() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let long = refusal(dir.path().join("long-".repeat(12)));
        assert!(long.contains("choose a shorter one"), "{long}");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let closed = refusal(dir.path().join("x"));
        assert!(closed.contains("chmod o+x"), "{closed}");
    }
}
