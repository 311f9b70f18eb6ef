//! A child's log: a file with a size limit, whose last lines can be shown to a person.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A log takes at most twice this size, because the log before it is kept.
const MOST_BYTES: u64 = 16 << 20;
/// The number of bytes at the end that are searched for the last lines.
const TAIL_BYTES: u64 = 8 << 10;

/// Copies `output` into the log until it ends. Runs on a thread of its own.
///
/// If the log can't be written, the output is dropped. Otherwise the child would block on a full
/// pipe.
pub fn pump(mut output: impl Read, path: &Path) {
    let mut log = BoundedLog::open(path, MOST_BYTES);
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length) = output.read(&mut buffer) {
        if length == 0 {
            break;
        }
        let written = log.as_mut().map_or(Ok(()), |log| log.write(&buffer[..length]));
        if let Err(error) = written {
            tracing::warn!(
                log = %path.display(),
                %error,
                "could not write a log; all further output is dropped"
            );
            log = Err(error);
        }
    }
}

/// The last lines of a log; empty if there are none.
pub fn last_lines(path: &Path, count: usize) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[derive(Debug)]
struct BoundedLog {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
}

impl BoundedLog {
    fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let written = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, written, limit })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written + bytes.len() as u64 > self.limit {
            fs::rename(&self.path, self.path.with_added_extension("1"))?;
            *self = Self::open(&self.path, self.limit)?;
        }
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_never_grows_beyond_twice_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.log");
        let mut log = BoundedLog::open(&path, 100).unwrap();
        for number in 0..100 {
            log.write(format!("line {number}\n").as_bytes()).unwrap();
        }
        let sizes: Vec<u64> =
            fs::read_dir(&dir).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| (1..=100).contains(size)), "{sizes:?}");
        assert_eq!(last_lines(&path, 1), "line 99");
    }

    #[test]
    fn a_log_is_continued_and_its_end_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.log");
        pump(&b"first\n"[..], &path);
        pump(&b"second\nthird\n"[..], &path);
        assert_eq!(last_lines(&path, 2), "second\nthird");
        assert_eq!(last_lines(&path, 9), "first\nsecond\nthird");
        assert_eq!(last_lines(&dir.path().join("none"), 2), "");
    }

    #[test]
    fn output_is_taken_even_where_no_log_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = io::Cursor::new(vec![b'x'; 100_000]);
        pump(&mut output, &dir.path().join("missing/etcd.log"));
        assert_eq!(output.position(), 100_000);
    }
}
