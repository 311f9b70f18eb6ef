//! The number of a machine's user: a guest that breaks out finds only its own files open.
//!
//! The numbers have no names: no line of `/etc/passwd` is written. They are a block of their own
//! that no distribution gives away (above users, subordinate users, containers and directory
//! services, below 2^31). A machine's number follows from its name, or is the next free one; the
//! machine's folder has it.

use std::collections::HashSet;
use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use agentvm_core::names::{DomainName, short_hash};

use crate::HvError;
use crate::files::{io, names_in};
use crate::libvirt::store::state_folder::StateFolder;

/// The default beginning of the block.
pub const FIRST_UID: u32 = 2_100_000_000;
/// The size of the block: the size of a block of subordinate users.
pub const UIDS: u32 = 65_536;

/// All of them.
pub fn block(first: u32) -> RangeInclusive<u32> {
    first..=first.saturating_add(UIDS - 1)
}

/// No other user may have the block. The error names the user.
pub fn check_block(first: u32) -> Result<(), HvError> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let taken =
        taken_by(first, &read("/etc/passwd"), &[&read("/etc/subuid"), &read("/etc/subgid")]);
    taken.map_or(Ok(()), |whose| {
        Err(HvError::Refused {
            what: "give each machine a user of its own".to_owned(),
            detail: format!(
                "of the {UIDS} numbers from {first} on some belong to {whose}; set \
                    libvirt.first_uid to the first of as many that \
                 nobody has, or to off"
            ),
        })
    })
}

/// The owner of numbers in the block that begins with `first`.
pub fn taken_by(first: u32, passwd: &str, subordinate: &[&str]) -> Option<String> {
    let (first, end) = (u64::from(first), u64::from(first) + u64::from(UIDS));
    let user = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?.parse::<u64>().ok()?);
        (first..end).contains(&uid).then(|| format!("the user {name} ({uid})"))
    });
    let block = || {
        subordinate.iter().flat_map(|table| table.lines()).find_map(|line| {
            let mut fields = line.split(':');
            let (name, from) = (fields.next()?, fields.next()?.parse::<u64>().ok()?);
            let count = fields.next()?.trim().parse::<u64>().ok()?;
            (name != RESERVED && from < end && from.saturating_add(count) > first)
                .then(|| format!("the subordinate users of {name} ({from} and {count} more)"))
        })
    };
    user.or_else(block)
}

/// The name under which an administrator reserves the block in `/etc/subuid`.
const RESERVED: &str = "agentvm";

/// The number for a new machine. The caller holds the lock that keeps others from asking, until the
/// number is written down.
pub fn choose(state_folder: &StateFolder, name: &DomainName, first: u32) -> Result<u32, HvError> {
    let mut taken = running();
    let others =
        names_in(&state_folder.machines()).into_iter().filter(|other| other != name.as_str());
    taken.extend(others.filter_map(|other| of(state_folder, &DomainName::from_recorded(other))));
    pick(first, hash(name), &taken).ok_or_else(|| HvError::NoCapacity {
        what: format!("give machine {name} a user of its own"),
        detail: format!("all {UIDS} numbers from {first} on are taken"),
    })
}

fn pick(first: u32, start: u32, taken: &HashSet<u32>) -> Option<u32> {
    let all = (0..UIDS).map(|n| first.saturating_add(start.wrapping_add(n) % UIDS));
    all.into_iter().find(|uid| !taken.contains(uid))
}

fn hash(name: &DomainName) -> u32 {
    u32::from_str_radix(&short_hash(&["user", name.as_str()], 8), 16).unwrap_or(0) % UIDS
}

/// The users of all processes on the host. A machine of another installation may be among them, or
/// the remains of a forgotten one.
fn running() -> HashSet<u32> {
    let processes = names_in(Path::new("/proc"))
        .into_iter()
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    processes
        .filter_map(|pid| Some(fs::metadata(Path::new("/proc").join(pid)).ok()?.uid()))
        .collect()
}

/// Notes the machine's user; its folder exists.
pub fn write(state_folder: &StateFolder, name: &DomainName, uid: u32) -> Result<(), HvError> {
    let at = state_folder.machine(name).user();
    fs::write(&at, uid.to_string()).map_err(io("write", &at))
}

/// `None` for a machine without a user of its own.
pub fn of(state_folder: &StateFolder, name: &DomainName) -> Option<u32> {
    fs::read_to_string(state_folder.machine(name).user()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_somebody_has_numbers_of_is_refused() {
        let passwd = "root:x:0:0::/root:/bin/sh\nme:x:2100000005:1::/:/x\n";
        assert_eq!(taken_by(FIRST_UID, passwd, &[]).as_deref(), Some("the user me (2100000005)"));
        assert_eq!(taken_by(FIRST_UID + 6, passwd, &[]), None);
        let subordinate = "other:100000:65536\nme:2099999999:2\nagentvm:2100000000:65536\n";
        assert!(taken_by(FIRST_UID, "", &[subordinate]).unwrap().contains("of me (2099999999"));
        assert_eq!(
            taken_by(FIRST_UID + 1, "", &[subordinate]),
            None,
            "what is reserved for it is its own"
        );
        assert!(taken_by(165_000, "", &["", subordinate]).unwrap().contains("of other"));
        assert_eq!(taken_by(FIRST_UID, "half:x\n:::\n", &["a:b:c\nx\n"]), None);
    }

    #[test]
    fn a_number_follows_from_the_name_and_is_never_anothers() {
        assert_eq!(pick(10, 3, &HashSet::new()), Some(13));
        assert_eq!(pick(10, 3, &HashSet::from([13, 14])), Some(15));
        assert_eq!(
            pick(10, UIDS - 1, &HashSet::from([9 + UIDS])),
            Some(10),
            "the block is a circle"
        );
        assert_eq!(pick(10, 0, &(10..10 + UIDS).collect()), None);
    }

    #[test]
    fn machines_that_are_there_keep_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let state_folder = StateFolder::new(dir.path().to_owned());
        let name = |n: u32| DomainName::from_recorded(format!("machine-{n}"));
        let mut all = HashSet::new();
        // One hash for all: the worst that can be.
        let first = FIRST_UID + hash(&name(0));
        for n in 0..50 {
            fs::create_dir_all(&state_folder.machine(&name(n)).0).unwrap();
            let uid = choose(&state_folder, &name(n), first - hash(&name(n))).unwrap();
            write(&state_folder, &name(n), uid).unwrap();
            assert_eq!(of(&state_folder, &name(n)), Some(uid));
            assert!(all.insert(uid), "{uid} twice");
        }
        let again = choose(&state_folder, &name(0), FIRST_UID).unwrap();
        assert_eq!(again, first, "a machine that is made anew gets what its name says");
        assert_eq!(of(&state_folder, &name(99)), None);
    }
}
