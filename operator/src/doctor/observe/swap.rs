//! Looks for the places to which this host may write its memory when memory runs short.

use std::fs;
use std::path::Path;

use crate::doctor::observed::Swap;

const IN_MEMORY: &str = "/dev/zram";
/// Prefix of device-mapper's ids for devices that encrypt.
const ENCRYPTED: &str = "CRYPT-";

/// All swap devices and swap files of this host.
pub(super) fn all() -> Vec<Swap> {
    entries(&fs::read_to_string("/proc/swaps").unwrap_or_default())
}

/// The table has a header. Each further line begins with a path.
fn entries(table: &str) -> Vec<Swap> {
    let paths = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let swap = |path: &str| Swap {
        path: path.into(),
        in_memory: path.starts_with(IN_MEMORY),
        encrypted: is_encrypted(path.as_ref()),
    };
    paths.map(swap).collect()
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
    fn memory_that_is_compressed_is_told_from_a_disk() {
        let table = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                     /dev/zram0                              partition\t4194300\t0\t100\n\
                     /swapfile                               file\t\t2097148\t0\t-2\n";
        let swap = |path: &str, in_memory| Swap { path: path.into(), in_memory, encrypted: false };
        assert_eq!(entries(table), [swap("/dev/zram0", true), swap("/swapfile", false)]);
        assert!(entries("").is_empty());
        assert!(!is_encrypted(Path::new("/swapfile")) && !is_encrypted(Path::new("/dev/null")));
    }
}
