//! Growing the root file system to its device: images are small, disks are what the profile says.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::sys;

/// Grows the ext4 file system that is mounted at `root` from /dev/vda to that device's size, if that is larger.
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

/// `statvfs` leaves out what the file system needs for itself, so "full size" can't be told exactly; growing by less than a
/// sixteenth isn't worth the time either.
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
