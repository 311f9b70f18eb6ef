//! Drops the pages that this process has written to its private mapping of the golden file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::maps;

/// The number of mappings, and their bytes, that read the file again.
pub fn private_pages_of(file: &OsStr) -> Result<(usize, u64), String> {
    let size = std::fs::metadata(file)
        .map_err(|e| format!("the golden memory can't be looked at: {e}"))?
        .len();
    let table = std::fs::read("/proc/self/maps")
        .map_err(|e| format!("the own mappings can't be read: {e}"))?;
    let found = maps::of(&table, file.as_bytes());
    maps::check(&found, size)?;
    for mapping in &found {
        let length = mapping.end - mapping.start;
        let start = std::ptr::with_exposed_provenance_mut(mapping.start);
        // SAFETY: the range is one whole mapping of this process, private and of the golden file,
        // as the kernel has just said. QEMU maps guest memory once and keeps it to its end. The
        // guest's clock stands still, so losing its writes is the purpose: no Rust object lives
        // there.
        if unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) } != 0 {
            return Err(format!("the kernel kept the pages: {}", std::io::Error::last_os_error()));
        }
    }
    Ok((found.len(), size))
}
