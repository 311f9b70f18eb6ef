//! The digest of a golden's content. Equal bytes have equal digests, wherever the file system keeps
//! holes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;

use agentvm_types::hex;
use rustix::fs::SeekFrom as Whence;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

const BLOCK: usize = 4096;
const CHUNK: usize = 256 * BLOCK;
const ZERO: [u8; BLOCK] = [0; BLOCK];

/// `sha256:…` over the files, each with its name and length.
pub fn of(files: &[&Path]) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
        add(&mut hash, &mut File::open(path)?)?;
    }
    Ok(format!("sha256:{}", hex(&hash.finalize())))
}

/// The blocks that are not all zero, each with its place. A hole and a block of zeros are equal
/// content.
fn add(hash: &mut Sha256, file: &mut File) -> std::io::Result<()> {
    let length = file.metadata()?.len();
    hash.update(length.to_be_bytes());
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while let Some((start, end)) = next_data(file, at)? {
        // Where data begins depends on the file system; blocks count from the file's start.
        at = start - start % BLOCK as u64;
        file.seek(SeekFrom::Start(at))?;
        while at < end {
            let read = read_full(file, &mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            for block in buffer[..read].chunks(BLOCK) {
                if block != &ZERO[..block.len()] {
                    hash.update(at.to_be_bytes());
                    hash.update(block);
                }
                at += block.len() as u64;
            }
        }
    }
    Ok(())
}

fn next_data(file: &File, from: u64) -> std::io::Result<Option<(u64, u64)>> {
    let start = match rustix::fs::seek(file.as_fd(), Whence::Data(from)) {
        Err(Errno::NXIO) => return Ok(None),
        found => found?,
    };
    Ok(Some((start.max(from), rustix::fs::seek(file.as_fd(), Whence::Hole(start))?)))
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn file(dir: &Path, folder: &str, write: impl FnOnce(&File)) -> std::path::PathBuf {
        let folder = dir.join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("memory");
        write(&File::create(&path).unwrap());
        path
    }

    #[test]
    fn holes_and_zeros_are_the_same_and_moved_bytes_are_not() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let sparse = |at: u64| {
            move |f: &File| {
                f.set_len(8 << 20).unwrap();
                f.write_all_at(b"x", at).unwrap();
            }
        };
        let digest = |path: std::path::PathBuf| of(&[&path]).unwrap();
        let holes = digest(file(dir.path(), "a", sparse(5 << 20)));
        let mut full = vec![0; 8 << 20];
        full[5 << 20] = b'x';
        assert_eq!(holes, digest(file(dir.path(), "b", |f| f.write_all_at(&full, 0).unwrap())));
        assert_ne!(holes, digest(file(dir.path(), "c", sparse((5 << 20) + 1))));
        assert_ne!(holes, digest(file(dir.path(), "d", sparse(6 << 20))));
        assert_ne!(
            holes,
            digest(file(dir.path(), "e", |f| f.write_all_at(&full[..7 << 20], 0).unwrap()))
        );
        let odd = digest(file(dir.path(), "f", |f| f.write_all_at(b"short", 0).unwrap()));
        assert_ne!(odd, holes);
    }
}
