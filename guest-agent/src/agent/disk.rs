//! Grows the root file system to the size of its device: images are small, and the profile sets the
//! size of disks.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::sys;

/// Grows the ext4 file system at `root` to the size of /dev/vda, if that is larger.
pub fn grow(root: &Path) -> io::Result<()> {
    let sectors: u64 =
        std::fs::read_to_string("/sys/class/block/vda/size")?.trim().parse().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, "the size of /dev/vda is no number")
        })?;
    let stat = rustix::fs::statvfs(root)?;
    match blocks_to_grow_to(sectors, stat.f_frsize, stat.f_blocks) {
        Some(blocks) => sys::ext4_resize(File::open(root)?, blocks),
        None => Ok(()),
    }
}

/// `statvfs` leaves out the blocks that the file system needs itself, so "full size" is not exact.
/// Growing by less than a sixteenth is not worth the time either.
fn blocks_to_grow_to(sectors: u64, block_size: u64, blocks: u64) -> Option<u64> {
    let device = sectors.saturating_mul(512).checked_div(block_size)?;
    (device > blocks.saturating_add(device / 16)).then_some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_only_when_there_is_something_to_gain() {
        let gib = 1 << 30;
        assert_eq!(blocks_to_grow_to(10 * gib / 512, 4096, gib / 4096), Some(10 * gib / 4096));
        assert_eq!(blocks_to_grow_to(gib / 512, 4096, gib / 4096 - 8000), None);
        assert_eq!(blocks_to_grow_to(gib / 512, 0, 0), None);
    }
}
