//! The users that machines' QEMUs run as, and the folders that belong to them.

use std::path::Path;
use std::sync::Mutex;

use agentvm_core::names::DomainName;

use super::{QemuUser, uids};
use crate::HvError;
use crate::libvirt::store::state_folder::StateFolder;
use crate::locks::lock;
use crate::workspace::virtfs::Mapping;

/// Knows the user of each machine, and gives users to new ones.
#[derive(Debug)]
pub struct MachineUsers {
    folder: StateFolder,
    /// QEMU's user of this host. A machine without a user of its own runs as this one.
    shared: QemuUser,
    /// The first of the numbers for machines. `None` means that all machines run as the shared
    /// user.
    first_uid: Option<u32>,
    /// Held while a machine gets a user of its own.
    choosing: Mutex<()>,
}

impl MachineUsers {
    /// Checks that all these users can reach the machines' folder.
    pub fn prepare(folder: &StateFolder, first_uid: Option<u32>) -> Result<Self, HvError> {
        let shared = QemuUser::find()?;
        shared.can_reach(&folder.machines())?;
        if let Some(first) = first_uid {
            uids::check_block(first)?;
            QemuUser { uid: first, ..shared }.can_reach(&folder.machines())?;
        }
        Ok(Self { folder: folder.clone(), shared, first_uid, choosing: Mutex::default() })
    }

    /// QEMU's user of this host.
    pub fn shared(&self) -> QemuUser {
        self.shared
    }

    /// The user that a machine's QEMU runs as.
    pub fn of(&self, name: &DomainName) -> QemuUser {
        uids::of(&self.folder, name).map_or(self.shared, |uid| QemuUser { uid, ..self.shared })
    }

    /// The way in which files get into a machine's share.
    pub fn mapping(&self, name: &DomainName) -> Mapping {
        let QemuUser { uid, gid } = self.of(name);
        Mapping::Virtfs { uid, gid }
    }

    /// Makes the folder of a machine. Returns the user that its QEMU will run as.
    pub fn make_machine(&self, name: &DomainName) -> Result<QemuUser, HvError> {
        let at = self.folder.machine(name).0;
        let Some(first) = self.first_uid else {
            self.shared.make_folder(&at)?;
            return Ok(self.shared);
        };
        let _choosing = lock(&self.choosing);
        let uid = uids::choose(&self.folder, name, first)?;
        let user = QemuUser { uid, ..self.shared };
        user.make_folder(&at)?;
        uids::write(&self.folder, name, uid)?;
        Ok(user)
    }

    /// Lets machines' users open the device of KVM. Needed before a machine starts with KVM.
    pub fn open_kvm(&self) -> Result<(), HvError> {
        if self.first_uid.is_none() {
            return Ok(());
        }
        self.shared.open_device(Path::new("/dev/kvm"))
    }
}
