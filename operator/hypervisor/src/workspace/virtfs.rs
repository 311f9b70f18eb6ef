//! QEMU's `mapped` security model: `user.virtfs.*` attributes of plain files hold a guest's owner,
//! mode and file type.
//!
//! A guest's symbolic link, device or FIFO is a regular file on the host; its attribute names its
//! type.

use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const S_IFDIR: u32 = 0o040_000;
/// The user `agent` in every guest.
const GUEST_UID: u32 = 1000;

/// The owner of a share's files on the host, and whether QEMU's attributes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Seen through virtio-9p by a QEMU that runs as this user.
    Virtfs { uid: u32, gid: u32 },
    /// Seen as it is, by a process of this host.
    #[cfg(any(test, feature = "fault-injection"))]
    Plain,
}

/// The type that a guest gives a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestType {
    /// Without an attribute, the file is a plain one.
    Unsaid,
    Regular {
        executable: bool,
    },
    /// A link, device, socket, FIFO, or nonsense.
    Other,
}

/// Marks a file or folder as the guest shall see it.
pub fn mark(fd: impl AsFd, mode: u32, folder: bool) -> rustix::io::Result<()> {
    let kind = if folder { S_IFDIR } else { S_IFREG };
    for (name, value) in [("uid", GUEST_UID), ("gid", GUEST_UID), ("mode", kind | (mode & 0o7777))]
    {
        rustix::fs::fsetxattr(
            &fd,
            format!("user.virtfs.{name}"),
            &value.to_le_bytes(),
            XattrFlags::empty(),
        )?;
    }
    Ok(())
}

/// The type in a file's attribute, if it has one.
///
/// A value of another length (`ERANGE`) is the guest's nonsense. Any other error is ours.
pub fn guest_type(fd: impl AsFd) -> rustix::io::Result<GuestType> {
    let mut value = [0_u8; 4];
    match rustix::fs::fgetxattr(fd, "user.virtfs.mode", &mut value) {
        Ok(4) => Ok(interpret(u32::from_le_bytes(value))),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(GuestType::Unsaid),
        Ok(_) | Err(Errno::RANGE) => Ok(GuestType::Other),
        Err(ours) => Err(ours),
    }
}

fn interpret(mode: u32) -> GuestType {
    if mode & S_IFMT == S_IFREG {
        GuestType::Regular { executable: mode & 0o111 != 0 }
    } else {
        GuestType::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_regular() {
        assert_eq!(interpret(0o100_755), GuestType::Regular { executable: true });
        assert_eq!(interpret(0o100_644), GuestType::Regular { executable: false });
        for link_fifo_device_socket_nothing in
            [0o120_777, 0o010_644, 0o020_600, 0o060_600, 0o140_755, 0]
        {
            assert_eq!(interpret(link_fifo_device_socket_nothing), GuestType::Other);
        }
    }

    #[test]
    fn a_mark_is_read_back() {
        let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        assert_eq!(guest_type(file.as_file()), Ok(GuestType::Unsaid));
        mark(file.as_file(), 0o755, false).unwrap();
        assert_eq!(guest_type(file.as_file()), Ok(GuestType::Regular { executable: true }));
    }
}
