//! Looks for disks to which this host may write its memory when memory runs short.

use std::fs;
use std::path::{Path, PathBuf};

const IN_MEMORY: &str = "/dev/zram";
/// Prefix of device-mapper's ids for devices that encrypt.
const ENCRYPTED: &str = "CRYPT-";

/// Files and partitions that would let people read swapped memory later.
pub(super) fn plain() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/swaps").unwrap_or_default();
    entries(&table).into_iter().filter(|device| !is_encrypted(device)).collect()
}

/// The table has a header. Each further line begins with a path.
fn entries(table: &str) -> Vec<PathBuf> {
    let paths = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    paths.filter(|path| !path.starts_with(IN_MEMORY)).map(PathBuf::from).collect()
}

fn is_encrypted(device: &Path) -> bool {
    // A name in /dev/mapper is a link to the kernel's name, such as dm-0.
    let device = fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    let Some(name) = device.strip_prefix("/dev").ok() else { return false };
    let uuid = fs::read_to_string(Path::new("/sys/block").join(name).join("dm/uuid"));
    uuid.is_ok_and(|uuid| uuid.starts_with(ENCRYPTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_compressed_is_no_disk() {
        let table = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                     /dev/zram0                              partition\t4194300\t0\t100\n\
                     /swapfile                               file\t\t2097148\t0\t-2\n";
        assert_eq!(entries(table), [PathBuf::from("/swapfile")]);
        assert!(entries("").is_empty());
        assert!(!is_encrypted(Path::new("/swapfile")) && !is_encrypted(Path::new("/dev/null")));
    }
}
