//! The access of a QEMU's user to our files, folders and devices.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::io::Errno;

use super::{QemuUser, posix_acl};
use crate::HvError;
use crate::files::io;

impl QemuUser {
    /// Can this user reach `path`? The error names the first folder that is closed, and the mend.
    pub fn can_reach(self, path: &Path) -> Result<(), HvError> {
        let mut folders: Vec<&Path> = path.ancestors().collect();
        folders.reverse();
        for folder in folders {
            let Ok(stat) = fs::metadata(folder) else { continue };
            if !self.may_enter(stat.mode(), stat.uid(), stat.gid()) {
                let (folder, mode) = (folder.display(), stat.mode() & 0o7777);
                return Err(HvError::Refused {
                    what: format!("keep machines in {}", path.display()),
                    detail: format!(
                        "QEMU runs as user {} and can't enter {folder} (mode {mode:04o}); \
                         choose another data directory, or run: chmod o+x {folder}",
                        self.uid
                    ),
                });
            }
        }
        Ok(())
    }

    /// Gives it a file, which only that user and root can open then.
    pub fn own(self, path: &Path) -> Result<(), HvError> {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io("close", path))?;
        chown(path, Some(self.uid), Some(self.gid)).map_err(io("give to QEMU's user", path))
    }

    /// Lets it walk through a folder of root. If the file system has no access lists, its whole
    /// group can, and the modes of the files inside must protect them.
    pub fn admit(self, folder: &Path) -> Result<(), HvError> {
        match posix_acl::only_walked_by(folder, self.uid) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) => {
                fs::set_permissions(folder, fs::Permissions::from_mode(0o710))
                    .map_err(io("open up", folder))?;
                chown(folder, None, Some(self.gid)).map_err(io("open to QEMU's group", folder))
            }
            Err(other) => Err(io("open up", folder)(other.into())),
        }
    }

    /// Makes a folder that is root's and that it may walk through.
    pub fn make_folder(self, path: &Path) -> Result<(), HvError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("make", path))?;
        self.admit(path)
    }

    /// Lets its group use a device of another group: a user without a name is in no second group.
    pub fn open_device(self, device: &Path) -> Result<(), HvError> {
        // Where libvirt runs in another container, the device isn't ours to open.
        let Ok(stat) = fs::metadata(device) else { return Ok(()) };
        if stat.mode() & 0o006 == 0o006 || (stat.gid() == self.gid && stat.mode() & 0o060 == 0o060)
        {
            return Ok(());
        }
        posix_acl::shared_with_group(device, self.gid).map_err(io("let QEMU's group use", device))
    }

    fn may_enter(self, mode: u32, uid: u32, gid: u32) -> bool {
        let bit = match () {
            () if self.uid == 0 => return true,
            () if uid == self.uid => 0o100,
            () if gid == self.gid => 0o010,
            () => 0o001,
        };
        mode & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        let user = QemuUser { uid: 64055, gid: 64055 };
        let error = user.can_reach(&dir.path().join("x/y")).unwrap_err().to_string();
        assert!(
            error.contains(dir.path().to_str().unwrap()) && error.contains("chmod o+x"),
            "{error}"
        );
        assert!(user.can_reach(Path::new("/usr/bin")).is_ok());
    }

    #[test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    fn what_is_its_own_is_nobody_else_s() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let (user, file) =
            (QemuUser { uid: 2_100_000_001, gid: 64055 }, dir.path().join("overlay"));
        fs::write(&file, "").unwrap();
        user.own(&file).unwrap();
        let stat = fs::metadata(&file).unwrap();
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o777), (2_100_000_001, 64055, 0o600));
        user.admit(dir.path()).unwrap();
        let stat = fs::metadata(dir.path()).unwrap();
        assert_eq!(
            (stat.uid(), stat.mode() & 0o007),
            (0, 0),
            "the folder stays root's, and closed to others"
        );
    }

    #[test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    fn a_device_of_another_group_is_opened_to_qemu_s_and_one_that_is_open_is_left_alone() {
        let device = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        let user = QemuUser { uid: 2_100_000_001, gid: 64055 };
        let listed = || {
            rustix::fs::getxattr(device.path(), "system.posix_acl_access", &mut [0_u8; 256][..])
                .is_ok()
        };
        for (mode, group, changed) in [(0o666, 7, false), (0o660, 64055, false), (0o660, 7, true)] {
            chown(device.path(), Some(0), Some(group)).unwrap();
            fs::set_permissions(device.path(), fs::Permissions::from_mode(mode)).unwrap();
            user.open_device(device.path()).unwrap();
            assert_eq!(listed(), changed, "{mode:o} of {group}");
        }
        user.open_device(Path::new("/dev/no-such-device")).unwrap();
    }
}
