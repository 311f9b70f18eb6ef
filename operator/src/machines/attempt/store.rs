//! The files that an attempt leaves on this node: `FOLDER/{stdout,stderr,output/}`.
//!
//! The length of a stream's file says how many bytes were received. A restarted operator resumes
//! from there. A stream that is longer than its limit has its beginning, a line that says how many
//! bytes are missing, and its end. `stdout.gap` then has the place of that line.

use std::{
    fs::{File, OpenOptions, create_dir_all},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use agentvm_core::status::missing_mark;
use agentvm_files::{Durability, WholeFile};
use agentvm_guest_agent::protocol::{OutputGap, StreamId};
use serde::{Deserialize, Serialize};

/// The bytes of a limit that the end of a longer stream gets, at most.
const END: u64 = 256 << 10;

/// The part of a stream's limit that its end gets.
pub fn end_bytes(limit: u64) -> u64 {
    END.min(limit / 2)
}

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

/// The missing part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Gap {
    offset: u64,
    missing: u64,
}

impl Gap {
    fn mark(self) -> String {
        format!("\n{}\n", missing_mark(self.missing))
    }

    /// The length of the file up to the end of the mark.
    fn marked(self) -> u64 {
        self.offset.saturating_add(self.mark().len() as u64)
    }
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

    /// The offset up to which a stream was received, with the bytes that are missing in it.
    pub fn len(&self, stream: StreamId) -> std::io::Result<u64> {
        let file = self.file_len(stream)?;
        let Some(gap) = self.gap(stream)? else { return Ok(file) };
        if file < gap.marked() {
            // The process ended before the mark was whole.
            self.write_mark(stream, gap)?;
        }
        Ok(gap.offset + gap.missing + file.saturating_sub(gap.marked()))
    }

    /// The number of bytes that are missing between the beginning and the end of a stream.
    pub fn missing(&self, stream: StreamId) -> std::io::Result<u64> {
        Ok(self.gap(stream)?.map_or(0, |gap| gap.missing))
    }

    /// Notes that a part of a stream is missing. The agent says so once; it may repeat it.
    pub fn skip(&self, said: OutputGap) -> std::io::Result<Taken> {
        let (stream, have) = (said.stream, self.len(said.stream)?);
        let new = Gap { offset: said.offset, missing: said.missing };
        match self.gap(stream)? {
            Some(old) if old == new => return Ok(Taken::UpTo(have)),
            Some(_) => return Ok(Taken::TooMuch),
            None => {}
        }
        if new.offset.checked_add(new.missing).is_none() || new.missing == 0 {
            return Ok(Taken::TooMuch);
        }
        if new.offset != have {
            return Ok(Taken::Gap);
        }
        let text = serde_json::to_vec(&new)?;
        WholeFile::at(&self.gap_path(stream), Durability::Process)
            .exact_mode(0o600)
            .write(&text)?;
        self.write_mark(stream, new)?;
        Ok(Taken::UpTo(said.end()))
    }

    fn gap(&self, stream: StreamId) -> std::io::Result<Option<Gap>> {
        match std::fs::read(self.gap_path(stream)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(why),
        }
    }

    fn write_mark(&self, stream: StreamId, gap: Gap) -> std::io::Result<()> {
        let mut file = self.append(stream)?;
        file.set_len(gap.offset)?;
        file.write_all(gap.mark().as_bytes())
    }

    fn file_len(&self, stream: StreamId) -> std::io::Result<u64> {
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
        if end - self.missing(stream)?.min(end) > limit {
            return Ok(Taken::TooMuch);
        }
        self.append(stream)?.write_all(new)?;
        Ok(Taken::UpTo(end))
    }

    /// The last bytes of a stream.
    pub fn tail(&self, stream: StreamId, max: u64) -> std::io::Result<(Vec<u8>, bool)> {
        let len = self.file_len(stream)?;
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

    fn gap_path(&self, stream: StreamId) -> PathBuf {
        self.path(stream).with_added_extension("gap")
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

    fn gap(offset: u64, missing: u64) -> OutputGap {
        OutputGap { stream: StreamId::Stdout, offset, missing }
    }

    #[test]
    fn a_long_stream_has_its_beginning_a_mark_and_its_true_end() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("1")).unwrap();
        let take = |offset, data: &[u8]| store.take(StreamId::Stdout, offset, data, 8).unwrap();
        assert_eq!(take(0, b"begin"), Taken::UpTo(5));
        assert_eq!(store.skip(gap(4, 9)).unwrap(), Taken::Gap);
        assert_eq!(store.skip(gap(5, u64::MAX)).unwrap(), Taken::TooMuch);
        assert_eq!(store.skip(gap(5, 0)).unwrap(), Taken::TooMuch);
        assert_eq!(store.skip(gap(5, 1000)).unwrap(), Taken::UpTo(1005));
        assert_eq!(store.skip(gap(5, 1000)).unwrap(), Taken::UpTo(1005), "repeated");
        assert_eq!(store.skip(gap(5, 1001)).unwrap(), Taken::TooMuch, "a second one");
        assert_eq!(take(1005, b"end"), Taken::UpTo(1008));
        assert_eq!(take(1005, b"end"), Taken::UpTo(1008), "replayed");
        assert_eq!(take(1008, b"x"), Taken::TooMuch);
        let text = std::fs::read_to_string(folder.path().join("1/stdout")).unwrap();
        assert_eq!(text, format!("begin\n{}\nend", missing_mark(1000)));
        let again = Store::open(&folder.path().join("1")).unwrap();
        assert_eq!(again.len(StreamId::Stdout).unwrap(), 1008);
        assert_eq!(again.missing(StreamId::Stdout).unwrap(), 1000);
        assert_eq!(again.len(StreamId::Stderr).unwrap(), 0);
    }

    #[test]
    fn a_mark_that_a_crash_cut_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("1")).unwrap();
        store.take(StreamId::Stdout, 0, b"begin", 8).unwrap();
        store.skip(gap(5, 1000)).unwrap();
        let path = folder.path().join("1/stdout");
        let whole = std::fs::read(&path).unwrap();
        for length in 5..whole.len() as u64 {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
            assert_eq!(store.len(StreamId::Stdout).unwrap(), 1005);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn the_end_of_a_stream_never_gets_more_than_half() {
        assert_eq!((end_bytes(10), end_bytes(1), end_bytes(10 << 20)), (5, 0, END));
    }
}
