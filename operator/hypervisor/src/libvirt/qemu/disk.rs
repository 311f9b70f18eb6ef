//! qcow2 files, and the free disk and memory of the host.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use agentvm_types::report;

use crate::HvError;
use crate::files::run;

/// With less than this nothing works that writes.
const FULL_BYTES: u64 = 2 << 20;

/// A new qcow2 file of `gib` on top of `backing`, which isn't opened: a running QEMU may hold it.
pub fn create_overlay(path: &Path, backing: &Path, format: &str, gib: u32) -> Result<(), HvError> {
    let mut create = Command::new("qemu-img");
    create
        .args(["create", "-q", "-u", "-f", "qcow2", "-F", format, "-b"])
        .arg(backing)
        .arg(path)
        .arg(format!("{gib}G"));
    run(&format!("make the disk {}", path.display()), &mut create)
}

/// Tells a qcow2 file where its backing file will stand. Nothing is copied or opened.
pub fn point_at(path: &Path, backing: &Path, format: &str) -> Result<(), HvError> {
    let mut rebase = Command::new("qemu-img");
    rebase.args(["rebase", "-q", "-u", "-f", "qcow2", "-F", format, "-b"]).arg(backing).arg(path);
    run(&format!("point the disk {} at its backing file", path.display()), &mut rebase)
}

/// Bytes that may still be written below `folder`.
pub fn free_bytes(folder: &Path) -> u64 {
    crate::files::free_bytes(folder).unwrap_or(0)
}

/// The memory that the kernel can give without swapping, in MiB.
pub fn free_memory_mib() -> u64 {
    let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|kib| kib.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Refuses, with numbers, a demand that the host has no room for.
pub fn budget(what: &str, folder: &Path, disk_bytes: u64, memory_mib: u64) -> Result<(), HvError> {
    check(what, (disk_bytes, free_bytes(folder)), (memory_mib, free_memory_mib()))
}

/// Turns an error of a program that writes below `folder` into a clear one when the disk is full:
/// every program has other words for that.
pub fn or_full(error: HvError, what: &str, folder: &Path) -> HvError {
    let said =
        matches!(&error, HvError::Io { source, .. } if source.kind() == ErrorKind::StorageFull);
    let known = matches!(
        error,
        HvError::NoCapacity { .. } | HvError::OutcomeUnknown { .. } | HvError::Killed { .. }
    );
    if known || !(said || free_bytes(folder) < FULL_BYTES) {
        return error;
    }
    let detail = format!(
        "the file system of {} is full; free some of it ({})",
        folder.display(),
        report(&error)
    );
    HvError::NoCapacity { what: what.to_owned(), detail }
}

fn check(what: &str, disk: (u64, u64), memory: (u64, u64)) -> Result<(), HvError> {
    let full = |detail: String| Err(HvError::NoCapacity { what: what.to_owned(), detail });
    let mib = |bytes: u64| bytes >> 20;
    match (disk, memory) {
        ((need, free), _) if need > free => {
            full(format!("it needs {} MiB of disk, and {} MiB are free", mib(need), mib(free)))
        }
        (_, (need, free)) if need > free => {
            full(format!("it needs {need} MiB of memory, and {free} MiB are free"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_as_such_whoever_met_it() {
        let met =
            || HvError::Io { what: "write".to_owned(), source: ErrorKind::StorageFull.into() };
        let told = or_full(met(), "create a machine", Path::new("/"));
        assert!(
            matches!(&told, HvError::NoCapacity { detail, .. } if detail.contains("is full")),
            "{told}"
        );
        let other = HvError::Refused { what: "x".to_owned(), detail: "y".to_owned() };
        assert!(matches!(or_full(other, "x", Path::new("/")), HvError::Refused { .. }));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_numbers() {
        assert!(check("x", (1, 2), (1, 2)).is_ok());
        let disk = check("capture", (3 << 30, 1 << 30), (0, 0)).unwrap_err();
        assert_eq!(disk.to_string(), "capture: it needs 3072 MiB of disk, and 1024 MiB are free");
        let memory = check("create", (0, 0), (512, 100)).unwrap_err();
        assert_eq!(memory.to_string(), "create: it needs 512 MiB of memory, and 100 MiB are free");
        assert!(free_memory_mib() > 0 && free_bytes(Path::new("/")) > 0);
    }
}
