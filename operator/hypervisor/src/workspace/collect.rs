//! Copies a guest's files from `output`, and trusts nothing there.
//!
//! Folders are entered and files opened by handle, beneath the previous one, without links and
//! mounts. A file is read only if the host sees a regular file *and* the guest's attribute does not
//! call it a link or a device.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use agentvm_core::globs::Globs;
use agentvm_types::hex;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::tree;
use super::virtfs::{self, GuestType};
use crate::{CollectSpec, Collected, CollectedFile, HvError, SkippedEntry};

/// So many skipped entries are named; the rest is counted.
const MAX_SKIPPED: usize = 100;
/// The patterns and the paths come from a tenant. Together they decide how long the matches take.
/// 100,000 entries with paths of 335 bytes stay below it.
const MAX_PATH_BYTES: usize = 32 << 20;
/// A guest that is still running may do this at any moment; it costs that file only.
const CHANGED: &str = "it changed while it was looked at";

/// Copies `<share>/output` into `into`.
pub fn collect(share: &Path, spec: &CollectSpec, into: &Path) -> Result<Collected, HvError> {
    let io = |what: &str, path: &Path, source| HvError::Io {
        what: format!("{what} {}", path.display()),
        source,
    };
    fresh_folder(into).map_err(|e| io("make the folder", into, e))?;
    let target = tree::open_root(into).map_err(|e| io("open the folder", into, e.into()))?;
    let root = tree::open_root(share).map_err(|e| io("open the share", share, e.into()))?;
    let output = tree::open_folder(&root, "output")
        .map_err(|e| io("open the output of", share, e.into()))?;
    let globs = Globs::new(&spec.include)
        .map_err(HvError::failed("compile the patterns of the output's paths"))?;
    let mut walk = Walk::new(spec, globs, target);
    walk.run(output).map_err(|e| io("copy the output of", share, e))?;
    let mut found = walk.found;
    found.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn fresh_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

struct Walk<'a> {
    spec: &'a CollectSpec,
    globs: Globs,
    target: OwnedFd,
    found: Collected,
    entries: usize,
    bytes: u64,
    /// Bytes of all paths that were compared with the patterns.
    path_bytes: usize,
}

/// A folder still to be looked into: its path from `output`, names only.
type Pending = (Vec<String>, OwnedFd);

impl<'a> Walk<'a> {
    fn new(spec: &'a CollectSpec, globs: Globs, target: OwnedFd) -> Self {
        let found = Collected::default();
        Self { spec, globs, target, found, entries: 0, bytes: 0, path_bytes: 0 }
    }

    fn run(&mut self, output: OwnedFd) -> std::io::Result<()> {
        let mut pending = VecDeque::from([(Vec::new(), output)]);
        while let Some((path, folder)) = pending.pop_back() {
            self.folder(&path, &folder, &mut pending)?;
            if self.found.too_large.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn folder(
        &mut self,
        path: &[String],
        folder: &OwnedFd,
        pending: &mut VecDeque<Pending>,
    ) -> std::io::Result<()> {
        let left = self.spec.max_entries.saturating_sub(self.entries);
        let (mut names, more) = tree::names(folder, left)?;
        self.entries += names.len();
        names.sort();
        for name in &names {
            self.entry(path, folder, name, pending)?;
            if self.found.too_large.is_some() {
                return Ok(());
            }
        }
        if more {
            self.found.too_large = Some(format!("more than {} entries", self.spec.max_entries));
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: &[String],
        folder: &OwnedFd,
        name: &CStr,
        pending: &mut VecDeque<Pending>,
    ) -> std::io::Result<()> {
        let shown = || {
            path.iter().cloned().chain([name.to_string_lossy().into_owned()]).collect::<Vec<_>>()
        };
        let Some(text) = plain_name(name) else {
            self.skip(shown().join("/"), "its name isn't printable UTF-8");
            return Ok(());
        };
        // The kind comes before the file is opened: opening a device can already act.
        let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
            self.skip(shown().join("/"), CHANGED);
            return Ok(());
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if path.len() + 1 >= tree::MAX_DEPTH => {
                self.skip(shown().join("/"), "it is nested too deep");
            }
            FileType::Directory => match tree::open_folder(folder, name) {
                Ok(fd) => pending.push_back((shown(), fd)),
                Err(e) => self.skip(shown().join("/"), &format!("it can't be opened: {e}")),
            },
            FileType::RegularFile => {
                let full = shown().join("/");
                self.path_bytes += full.len();
                if self.path_bytes > MAX_PATH_BYTES {
                    self.found.too_large = Some(format!(
                        "paths of more than {MAX_PATH_BYTES} bytes, of all files together"
                    ));
                } else if self.globs.matches(&full) {
                    self.file(path, folder, name, text, full)?;
                }
            }
            other => self.skip(shown().join("/"), &format!("it is {}", kind_text(other))),
        }
        Ok(())
    }

    fn file(
        &mut self,
        path: &[String],
        folder: &OwnedFd,
        name: &CStr,
        text: &str,
        full: String,
    ) -> std::io::Result<()> {
        let fd = match tree::open_file(folder, name) {
            Ok(fd) => fd,
            Err(e) => {
                self.skip(full, &format!("it can't be opened: {e}"));
                return Ok(());
            }
        };
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            self.skip(full, CHANGED);
            return Ok(());
        }
        let executable = match virtfs::guest_type(&fd) {
            GuestType::Regular { executable } => executable,
            GuestType::Unsaid => stat.st_mode & 0o111 != 0,
            GuestType::Other => {
                self.skip(full, "it is a link or a device of the guest");
                return Ok(());
            }
        };
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if !self.fits(&full, size) {
            return Ok(());
        }
        match self.copy(path, text, fd, size, executable)? {
            Some(sha256) => {
                self.bytes += size;
                self.found.files.push(CollectedFile {
                    path: full,
                    size_bytes: size,
                    sha256,
                    executable,
                });
            }
            None => self.skip(full, CHANGED),
        }
        Ok(())
    }

    /// The size that the file *claims*: a sparse terabyte costs the guest nothing, and must cost
    /// the host nothing either.
    fn fits(&mut self, full: &str, size: u64) -> bool {
        if self.found.files.len() >= self.spec.max_files {
            self.found.too_large = Some(format!("more than {} files", self.spec.max_files));
        } else if size > self.spec.max_bytes - self.bytes {
            let max = self.spec.max_bytes;
            let before = self.bytes;
            self.found.too_large = Some(format!(
                "{full} has {size} bytes; with {before} before it that is more than {max}"
            ));
        }
        self.found.too_large.is_none()
    }

    /// `None`, and no copy, when the file became shorter than it claimed.
    fn copy(
        &self,
        path: &[String],
        name: &str,
        from: OwnedFd,
        size: u64,
        executable: bool,
    ) -> std::io::Result<Option<String>> {
        let mut at = self.target.try_clone()?;
        for folder in path {
            match rustix::fs::mkdirat(&at, folder.as_str(), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(other) => return Err(other.into()),
            }
            at = tree::open_folder(&at, folder.as_str())?;
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = if executable { Mode::RWXU } else { Mode::RUSR | Mode::WUSR };
        let to = rustix::fs::openat(at.as_fd(), name, flags, mode)?;
        let hash = hash_copy(File::from(from), File::from(to), size)?;
        if hash.is_none() {
            rustix::fs::unlinkat(&at, name, AtFlags::empty())?;
        }
        Ok(hash)
    }

    fn skip(&mut self, path: String, why: &str) {
        self.found.skipped_total += 1;
        if self.found.skipped.len() < MAX_SKIPPED {
            self.found.skipped.push(SkippedEntry { path: bounded(path), why: why.to_owned() });
        }
    }
}

fn hash_copy(from: File, mut to: File, size: u64) -> std::io::Result<Option<String>> {
    let mut from = from.take(size);
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; 128 * 1024];
    let mut copied = 0_u64;
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        to.write_all(&buffer[..n])?;
        copied += n as u64;
    }
    Ok((copied == size).then(|| hex(&hash.finalize())))
}

/// A name that can stand in a status, a log and a terminal.
fn plain_name(name: &CStr) -> Option<&str> {
    name.to_str().ok().filter(|text| !text.chars().any(char::is_control))
}

fn bounded(path: String) -> String {
    const MAX: usize = 300;
    if path.chars().count() <= MAX { path } else { path.chars().take(MAX).chain(['…']).collect() }
}

fn kind_text(kind: FileType) -> &'static str {
    match kind {
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "of an unknown type",
    }
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
