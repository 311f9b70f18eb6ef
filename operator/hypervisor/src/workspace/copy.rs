//! Copies one file and computes its digest. Holes stay holes: they cost no disk of the node.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use agentvm_types::hex;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::budget::{Budget, Stopped};

const PIECE: usize = 128 * 1024;

/// The digest of the copy; `None` when the file became shorter than it claimed.
pub fn copy(
    from: OwnedFd,
    to: OwnedFd,
    size: u64,
    budget: &mut Budget,
) -> Result<Option<String>, Stopped> {
    let (from, to) = (File::from(from), File::from(to));
    let mut copy = Copy { hash: Sha256::new(), buffer: vec![0; PIECE], budget };
    let mut at = 0;
    while at < size {
        let data = next_data(&from, at)?.min(size);
        copy.zeros(data - at)?;
        let end = next_hole(&from, data)?.min(size);
        if !copy.data(&from, &to, data, end)? {
            return Ok(None);
        }
        at = end;
    }
    if from.metadata()?.len() < size {
        return Ok(None);
    }
    to.set_len(size)?;
    Ok(Some(hex(&copy.hash.finalize())))
}

/// The beginning of the next data. A file system without holes says that all is data.
fn next_data(file: impl AsFd, at: u64) -> rustix::io::Result<u64> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Err(Errno::NXIO) => Ok(u64::MAX),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(at),
        found => found,
    }
}

/// The end of the data that begins at `at`; always beyond `at`.
fn next_hole(file: impl AsFd, at: u64) -> rustix::io::Result<u64> {
    match rustix::fs::seek(file, SeekFrom::Hole(at)) {
        Ok(hole) if hole > at => Ok(hole),
        Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => Ok(u64::MAX),
        Err(ours) => Err(ours),
    }
}

struct Copy<'a> {
    hash: Sha256,
    buffer: Vec<u8>,
    budget: &'a mut Budget,
}

impl Copy<'_> {
    /// A hole belongs to the digest, and to the file's size, but not to the disk.
    fn zeros(&mut self, mut length: u64) -> Result<(), Stopped> {
        self.buffer.fill(0);
        while length > 0 {
            self.budget.work()?;
            let piece = piece(length);
            self.hash.update(&self.buffer[..piece]);
            length -= piece as u64;
        }
        Ok(())
    }

    /// `false` where the file ends too early.
    fn data(&mut self, from: &File, to: &File, mut at: u64, end: u64) -> Result<bool, Stopped> {
        while at < end {
            self.budget.work()?;
            let part = &mut self.buffer[..piece(end - at)];
            let read = from.read_at(part, at)?;
            if read == 0 {
                return Ok(false);
            }
            self.hash.update(&part[..read]);
            to.write_all_at(&part[..read], at)?;
            at += read as u64;
        }
        Ok(true)
    }
}

fn piece(left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(PIECE)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::time::Duration;

    use super::super::budget::Cancel;
    use super::*;

    fn run(from: &File, size: u64) -> (Option<String>, File, u64) {
        let to = tempfile::tempfile_in("/var/tmp").unwrap();
        let mut budget = Budget::new(0, 0, Duration::from_mins(1), Cancel::default());
        let fds = (from.try_clone().unwrap().into(), to.try_clone().unwrap().into());
        let hash = copy(fds.0, fds.1, size, &mut budget).unwrap();
        (hash, to, budget.worked())
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_no_file() {
        let from = tempfile::tempfile_in("/var/tmp").unwrap();
        from.write_all_at(b"short", 0).unwrap();
        assert_eq!(run(&from, 100).0, None);
        assert!(run(&from, 5).0.is_some());
    }

    #[test]
    fn holes_stay_holes_and_count_in_the_digest() {
        let from = tempfile::tempfile_in("/var/tmp").unwrap();
        from.set_len(64 << 20).unwrap();
        from.write_all_at(b"middle", 20 << 20).unwrap();
        let (hash, to, _) = run(&from, 64 << 20);
        let mut whole = vec![0_u8; 64 << 20];
        whole[20 << 20..][..6].copy_from_slice(b"middle");
        assert_eq!(hash.unwrap(), hex(&Sha256::digest(&whole)));
        let meta = to.metadata().unwrap();
        assert_eq!(meta.len(), 64 << 20);
        assert!(meta.blocks() * 512 <= 1 << 20, "{} blocks", meta.blocks());
        let mut read = vec![0; 6];
        to.read_exact_at(&mut read, 20 << 20).unwrap();
        assert_eq!(read, b"middle");
    }
}
