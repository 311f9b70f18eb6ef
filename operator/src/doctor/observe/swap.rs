//! Where this host's memory may be written to when it runs short.

use std::fs;
use std::path::{Path, PathBuf};

const IN_MEMORY: &str = "/dev/zram";
/// What device-mapper calls a device that encrypts.
const ENCRYPTED: &str = "CRYPT-";

/// Files and partitions that what is swapped out can be read from later.
pub(super) fn plain() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/swaps").unwrap_or_default();
    entries(&table).into_iter().filter(|device| !is_encrypted(device)).collect()
}

/// Below a header, one line each that begins with its path.
fn entries(table: &str) -> Vec<PathBuf> {
    let paths = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    paths.filter(|path| !path.starts_with(IN_MEMORY)).map(PathBuf::from).collect()
}

fn is_encrypted(device: &Path) -> bool {
    // A name in /dev/mapper leads to the kernel's own, dm-0.
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
        let table = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/zram0                              partition\t4194300\t0\t100\n\
                     /swapfile                               file\t\t2097148\t0\t-2\n";
        assert_eq!(entries(table), [PathBuf::from("/swapfile")]);
        assert!(entries("").is_empty());
        assert!(!is_encrypted(Path::new("/swapfile")) && !is_encrypted(Path::new("/dev/null")));
    }
}
