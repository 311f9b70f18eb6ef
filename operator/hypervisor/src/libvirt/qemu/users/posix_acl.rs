//! Access lists of files. They say what modes cannot: one more user may use a file of another.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

const ATTRIBUTE: &str = "system.posix_acl_access";
const VERSION: u32 = 2;
/// Entries without a number: the owner, the owning group, the mask, all others.
const NOBODY: u32 = u32::MAX;

/// The subject of an entry, by the kernel's numbers; entries are in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Owner = 0x01,
    User = 0x02,
    OwningGroup = 0x04,
    Group = 0x08,
    Mask = 0x10,
    Other = 0x20,
}

impl Who {
    const ALL: [Self; 6] =
        [Self::Owner, Self::User, Self::OwningGroup, Self::Group, Self::Mask, Self::Other];
}

/// The list is sorted and complete, with one entry for each subject.
#[derive(Clone, Debug, PartialEq, Eq)]
struct List(Vec<(Who, u32, u16)>);

/// Only its owner may use the folder, and `user` may walk through it.
pub fn only_walked_by(folder: &Path, user: u32) -> Result<(), Errno> {
    let list = List::of_mode(0o700).with(Who::User, user, 0o1);
    rustix::fs::setxattr(folder, ATTRIBUTE, &list.encode(), XattrFlags::empty())
}

/// From now on the mode says it all.
pub fn forget(path: &Path) -> Result<(), Errno> {
    match rustix::fs::removexattr(path, ATTRIBUTE) {
        Err(other) if other != Errno::NODATA && other != Errno::OPNOTSUPP => Err(other),
        _ => Ok(()),
    }
}

/// The members of `group` may read and write a file, besides its present users.
pub fn shared_with_group(file: &Path, group: u32) -> std::io::Result<()> {
    let stat = fs::metadata(file)?;
    let mut now = vec![0; 4096];
    let list = match rustix::fs::getxattr(file, ATTRIBUTE, &mut now) {
        Ok(length) => List::decode(&now[..length]).ok_or(std::io::ErrorKind::InvalidData)?,
        Err(Errno::NODATA) => List::of_mode(stat.mode()),
        Err(other) => return Err(other.into()),
    };
    let wanted = list.clone().with(Who::Group, group, 0o6);
    if wanted == list {
        return Ok(());
    }
    Ok(rustix::fs::setxattr(file, ATTRIBUTE, &wanted.encode(), XattrFlags::empty())?)
}

impl List {
    fn of_mode(mode: u32) -> Self {
        let part = |shift: u32| u16::try_from((mode >> shift) & 0o7).unwrap_or(0);
        Self(vec![
            (Who::Owner, NOBODY, part(6)),
            (Who::OwningGroup, NOBODY, part(3)),
            (Who::Other, NOBODY, part(0)),
        ])
    }

    /// The mask is made to let everything through that the entries say.
    fn with(mut self, who: Who, id: u32, may: u16) -> Self {
        self.0.retain(|(there, of, _)| *there != Who::Mask && (*there, *of) != (who, id));
        self.0.push((who, id, may));
        let masked = |who: &Who| matches!(who, Who::User | Who::OwningGroup | Who::Group);
        let mask =
            self.0.iter().filter(|(who, ..)| masked(who)).fold(0, |mask, (.., may)| mask | may);
        self.0.push((Who::Mask, NOBODY, mask));
        self.0.sort_unstable();
        self
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (who, id, may) in &self.0 {
            bytes.extend((*who as u16).to_le_bytes());
            bytes.extend(may.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != VERSION {
            return None;
        }
        let (entries, []) = rest.as_chunks::<8>() else { return None };
        let read = |entry: &[u8; 8]| {
            let [a, b, c, d, id @ ..] = *entry;
            let who = Who::ALL.into_iter().find(|who| *who as u16 == u16::from_le_bytes([a, b]))?;
            Some((who, u32::from_le_bytes(id), u16::from_le_bytes([c, d])))
        };
        entries.iter().map(read).collect::<Option<_>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn list_of(path: &Path) -> List {
        let mut bytes = vec![0; 4096];
        let length = rustix::fs::getxattr(path, ATTRIBUTE, &mut bytes).unwrap();
        List::decode(&bytes[..length]).unwrap()
    }

    #[test]
    fn a_folder_is_closed_but_for_one() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        only_walked_by(dir.path(), 2_100_000_007).unwrap();
        // The group's bits show the mask.
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o710);
        let list = list_of(dir.path());
        assert!(
            list.0.contains(&(Who::OwningGroup, NOBODY, 0))
                && list.0.contains(&(Who::Other, NOBODY, 0))
        );
        assert!(list.0.contains(&(Who::User, 2_100_000_007, 1)));
        only_walked_by(dir.path(), 5).unwrap();
        assert_eq!(
            list_of(dir.path()).0.iter().filter(|(who, ..)| *who == Who::User).count(),
            1,
            "one at a time"
        );
    }

    #[test]
    fn a_group_is_added_to_those_who_may_already() {
        let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o660)).unwrap();
        shared_with_group(file.path(), 64055).unwrap();
        let first = list_of(file.path());
        assert!(
            first.0.contains(&(Who::Group, 64055, 6))
                && first.0.contains(&(Who::OwningGroup, NOBODY, 6))
        );
        shared_with_group(file.path(), 64055).unwrap();
        assert_eq!(list_of(file.path()), first);
        shared_with_group(file.path(), 7).unwrap();
        assert!(list_of(file.path()).0.contains(&(Who::Group, 64055, 6)));
    }

    #[test]
    fn nonsense_is_not_read() {
        for bytes in
            [&[][..], &[9, 0, 0, 0], &[2, 0, 0, 0, 1], &[2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert_eq!(List::decode(bytes), None, "{bytes:?}");
        }
    }
}
