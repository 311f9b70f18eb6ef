//! The paths below the state directory. This file touches none of them.
//!
//! ```text
//! machines/<name>/   overlay.qcow2  share.img  share/  agent.sock  console.log  reset/sock
//!                    user  token  record.json  process.json  limits.json  parked
//!                    quarantined.json  ready | resetting
//! preload/           <sha256>.so, the preload library
//! golden/<key>/      memory  state  snapshot.qcow2  disk.qcow2  rootfs.raw  vmlinuz
//!                    initrd.img  golden.json  recipe.json
//! golden/.tmp-<key>/ a golden that is being made
//! accelerator.json   verdict of the boot probe
//! ```

use std::path::{Path, PathBuf};

use agentvm_core::names::{DomainName, GoldenKey};

/// The longest path that fits into a socket address.
const SOCKET_PATH_MAX: usize = 107;
/// The longest domain name that is derived: a template's.
const LONGEST_NAME: usize = "avm-00000000-golden-000000000000".len();
/// Goldens that aren't whole yet.
pub const HALF: &str = ".tmp-";

#[derive(Clone, Debug)]
pub struct StateFolder {
    root: PathBuf,
}

impl StateFolder {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn machines(&self) -> PathBuf {
        self.root.join("machines")
    }

    pub fn goldens(&self) -> PathBuf {
        self.root.join("golden")
    }

    /// Copies of the preloaded library, where QEMU's user can read them.
    pub fn preload(&self) -> PathBuf {
        self.root.join("preload")
    }

    pub fn accelerator(&self) -> PathBuf {
        self.root.join("accelerator.json")
    }

    pub fn machine(&self, name: &DomainName) -> MachineDir {
        MachineDir(self.machines().join(name.as_str()))
    }

    pub fn golden(&self, key: &GoldenKey) -> GoldenDir {
        GoldenDir(self.goldens().join(key.as_str()))
    }

    pub fn half_golden(&self, key: &GoldenKey) -> GoldenDir {
        GoldenDir(self.goldens().join(format!("{HALF}{key}")))
    }

    /// A golden that is being removed; debris like a half one when that is interrupted.
    pub fn going_golden(&self, key: &GoldenKey) -> GoldenDir {
        GoldenDir(self.goldens().join(format!("{HALF}gone-{key}")))
    }

    /// The number of bytes by which the state directory's path is too long for the sockets below
    /// it.
    pub fn too_long_by(&self) -> usize {
        // The other socket, `reset/sock`, has as long a name.
        let below = "/machines/".len() + LONGEST_NAME + "/agent.sock".len();
        (self.root.as_os_str().len() + below).saturating_sub(SOCKET_PATH_MAX)
    }
}

/// The folder of one machine.
#[derive(Clone, Debug)]
pub struct MachineDir(pub PathBuf);

impl MachineDir {
    pub fn overlay(&self) -> PathBuf {
        self.0.join("overlay.qcow2")
    }

    pub fn share_image(&self) -> PathBuf {
        self.0.join("share.img")
    }

    pub fn share(&self) -> PathBuf {
        self.0.join("share")
    }

    pub fn channel(&self) -> PathBuf {
        self.0.join("agent.sock")
    }

    pub fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }

    /// The user of its QEMU; see `qemu/users/uids.rs`.
    pub fn user(&self) -> PathBuf {
        self.0.join("user")
    }

    pub fn token(&self) -> PathBuf {
        self.0.join("token")
    }

    /// Made last: a machine without it was never finished.
    pub fn ready(&self) -> PathBuf {
        self.0.join("ready")
    }

    /// The name of `ready` while the machine is being reset.
    pub fn resetting(&self) -> PathBuf {
        self.0.join("resetting")
    }

    /// The folder of the preloaded library's socket: QEMU's own.
    pub fn reset(&self) -> PathBuf {
        self.0.join("reset")
    }

    pub fn reset_socket(&self) -> PathBuf {
        self.reset().join("sock")
    }

    /// The incarnation after a reset; it wins over the domain's metadata.
    pub fn record(&self) -> PathBuf {
        self.0.join("record.json")
    }

    /// With which limits its process was started.
    pub fn limits(&self) -> PathBuf {
        self.0.join("limits.json")
    }

    /// Which process the machine was made in.
    pub fn process(&self) -> PathBuf {
        self.0.join("process.json")
    }

    /// [`crate::Mark::Parked`], with its evidence.
    pub fn parked(&self) -> PathBuf {
        self.0.join("parked")
    }

    /// [`crate::Mark::Quarantined`].
    pub fn quarantined(&self) -> PathBuf {
        self.0.join("quarantined.json")
    }
}

/// The folder of one golden, whole or half.
#[derive(Clone, Debug)]
pub struct GoldenDir(pub PathBuf);

impl GoldenDir {
    pub fn memory(&self) -> PathBuf {
        self.0.join("memory")
    }

    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// The overlay that carries the device state `golden`; machines copy it.
    pub fn snapshot(&self) -> PathBuf {
        self.0.join("snapshot.qcow2")
    }

    /// The data that booting and setup wrote.
    pub fn disk(&self) -> PathBuf {
        self.0.join("disk.qcow2")
    }

    pub fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs.raw")
    }

    pub fn kernel(&self) -> PathBuf {
        self.0.join("vmlinuz")
    }

    pub fn initrd(&self) -> PathBuf {
        self.0.join("initrd.img")
    }

    /// The description that [`crate::GoldenApi::goldens`] returns.
    pub fn golden(&self) -> PathBuf {
        self.0.join("golden.json")
    }

    /// The values for a machine's domain.
    pub fn captured_layout(&self) -> PathBuf {
        self.0.join("recipe.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentvm_core::names::InstanceId;

    #[test]
    fn every_socket_below_an_accepted_folder_fits_into_an_address() {
        let key = GoldenKey::derive(&["x"]);
        let name = DomainName::for_template(&InstanceId::for_state_dir("/x"), &key);
        assert_eq!(name.as_str().len(), LONGEST_NAME);
        let fits = |length: usize| {
            let state_folder =
                StateFolder::new(PathBuf::from(format!("/{}", "x".repeat(length - 1))));
            let fits =
                |socket: PathBuf| std::os::unix::net::SocketAddr::from_pathname(socket).is_ok();
            let machine = state_folder.machine(&name);
            assert_eq!(fits(machine.channel()), fits(machine.reset_socket()));
            (state_folder.too_long_by(), fits(machine.channel()))
        };
        assert_eq!(fits(54), (0, true));
        assert_eq!(fits(55), (1, false));
    }
}
