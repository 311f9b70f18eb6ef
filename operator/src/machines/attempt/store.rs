//! The files that an attempt leaves on this node: `FOLDER/{stdout,stderr,output/}`.
//!
//! The length of a stream's file is the number of bytes received. A restarted operator resumes from
//! there.

use std::{
    fs::{File, OpenOptions, create_dir_all},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use agentvm_guest_agent::protocol::StreamId;

/// The folder of an attempt.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// The result of one OUTPUT message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All bytes up to here are in the file.
    UpTo(u64),
    /// Bytes before it are missing.
    Gap,
    /// More than the agent was allowed to send.
    TooMuch,
}

impl Store {
    /// Opens the folder, and makes it if it does not exist.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        if let Some(parent) = folder.parent() {
            create_dir_all(parent)?;
        }
        match std::fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(why) if why.kind() != std::io::ErrorKind::AlreadyExists => Err(why),
            _ => Ok(Self { folder: folder.to_owned() }),
        }
    }

    pub fn output_folder(&self) -> PathBuf {
        self.folder.join("output")
    }

    /// The number of bytes that were received of a stream.
    pub fn len(&self, stream: StreamId) -> std::io::Result<u64> {
        match std::fs::metadata(self.path(stream)) {
            Ok(meta) => Ok(meta.len()),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(why) => Err(why),
        }
    }

    /// Appends those bytes of a stream that are new.
    pub fn take(
        &self,
        stream: StreamId,
        offset: u64,
        data: &[u8],
        limit: u64,
    ) -> std::io::Result<Taken> {
        let have = self.len(stream)?;
        if offset > have {
            return Ok(Taken::Gap);
        }
        let known = usize::try_from(have - offset).unwrap_or(usize::MAX);
        let Some(new) = data.get(known..).filter(|new| !new.is_empty()) else {
            return Ok(Taken::UpTo(have));
        };
        let end = have.saturating_add(new.len() as u64);
        if end > limit {
            return Ok(Taken::TooMuch);
        }
        self.append(stream)?.write_all(new)?;
        Ok(Taken::UpTo(end))
    }

    /// The last bytes of a stream.
    pub fn tail(&self, stream: StreamId, max: u64) -> std::io::Result<(Vec<u8>, bool)> {
        let len = self.len(stream)?;
        if len == 0 {
            return Ok((Vec::new(), false));
        }
        let mut file = File::open(self.path(stream))?;
        file.seek(SeekFrom::Start(len.saturating_sub(max)))?;
        let mut bytes = Vec::new();
        file.take(max).read_to_end(&mut bytes)?;
        Ok((bytes, len > max))
    }

    fn append(&self, stream: StreamId) -> std::io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(self.path(stream))
    }

    fn path(&self, stream: StreamId) -> PathBuf {
        self.folder.join(match stream {
            StreamId::Stdout => "stdout",
            StreamId::Stderr => "stderr",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replayed_bytes_are_taken_once_and_gaps_and_floods_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("1")).unwrap();
        let take = |offset, data: &[u8]| store.take(StreamId::Stdout, offset, data, 8).unwrap();
        assert_eq!(take(0, b"abc"), Taken::UpTo(3));
        assert_eq!(take(0, b"abcd"), Taken::UpTo(4));
        assert_eq!(take(1, b"b"), Taken::UpTo(4));
        assert_eq!(take(6, b"x"), Taken::Gap);
        assert_eq!(take(4, b"56789"), Taken::TooMuch);
        assert_eq!(store.tail(StreamId::Stdout, 2).unwrap(), (b"cd".to_vec(), true));
        assert_eq!(store.tail(StreamId::Stderr, 2).unwrap(), (vec![], false));
        let again = Store::open(&folder.path().join("1")).unwrap();
        assert_eq!(again.len(StreamId::Stdout).unwrap(), 4);
    }
}
