//! Copies a guest's files from `output`, and trusts nothing there.
//!
//! Folders are entered and files opened by handle, beneath the previous one, without links and
//! mounts. A file is read only if the host sees a regular file *and* the guest's attribute does not
//! call it a link or a device.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::Path;

use agentvm_core::globs::Globs;
use rustix::fs::{AtFlags, FileType};

use super::budget::{Budget, Cancel, MAX_DEPTH, Spent, Stopped};
use super::copy;
use super::target::Target;
use super::tree::{self, Found, found};
use super::virtfs::{self, GuestType};
use crate::{CollectSpec, Collected, CollectedFile, HvError, SkippedEntry};

/// So many skipped entries are named; the rest is counted.
const MAX_SKIPPED: usize = 100;
/// The patterns and the paths come from a tenant. Together they decide how long the matches take.
/// 100,000 entries with paths of 335 bytes stay below it.
const MAX_PATH_BYTES: usize = 32 << 20;
/// A guest that is still running may do this at any moment; it costs that file only.
const CHANGED: &str = "it changed while it was looked at";

/// Copies `<share>/output` into `into`. After an error `into` is empty or absent: half an output
/// looks like a whole one, and may be the reason why a disk is full.
pub fn collect(
    share: &Path,
    spec: &CollectSpec,
    into: &Path,
    cancel: Cancel,
) -> Result<Collected, HvError> {
    let mut budget = Budget::new(spec.max_entries, spec.max_bytes, spec.max_time(), cancel);
    collect_within(share, spec, into, &mut budget).inspect_err(|_| {
        if let Err(why) = remove_folder(into) {
            tracing::warn!(folder = %into.display(), error = &why as &dyn std::error::Error,
                "a part of an output could not be removed");
        }
    })
}

fn collect_within(
    share: &Path,
    spec: &CollectSpec,
    into: &Path,
    budget: &mut Budget,
) -> Result<Collected, HvError> {
    let failed = |what: &str, path: &Path, why: Stopped| {
        why.into_error(format!("{what} {}", path.display()))
    };
    fresh_folder(into).map_err(|e| failed("make the folder", into, e.into()))?;
    let target = tree::open_root(into).map_err(|e| failed("open the folder", into, e.into()))?;
    let root = tree::open_root(share).map_err(|e| failed("open the share", share, e.into()))?;
    let output = tree::open_folder(&root, "output")
        .map_err(|e| failed("open the output of", share, e.into()))?;
    let globs = Globs::new(&spec.include)
        .map_err(HvError::failed("compile the patterns of the output's paths"))?;
    let target = Target::new(target);
    let found = Collected::default();
    let mut walk = Walk { spec, globs, target, found, budget, path: Vec::new(), path_bytes: 0 };
    match walk.run(output) {
        Ok(()) => {}
        Err(End::TooLarge(why)) => walk.found.too_large = Some(why),
        Err(End::Stopped(why)) => return Err(failed("copy the output of", share, why)),
    }
    let mut found = walk.found;
    found.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn fresh_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    remove_folder(path)?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Absent is fine.
fn remove_folder(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The end of a walk before its last entry.
enum End {
    /// The guest left more than it may. The files before are kept.
    TooLarge(String),
    /// Our own trouble, or the end of the time.
    Stopped(Stopped),
}

impl<E: Into<Stopped>> From<E> for End {
    fn from(why: E) -> Self {
        Self::Stopped(why.into())
    }
}

type Walked<T = ()> = Result<T, End>;

struct Walk<'a> {
    spec: &'a CollectSpec,
    globs: Globs,
    target: Target,
    found: Collected,
    budget: &'a mut Budget,
    /// The folder that is looked at: its names from `output` on.
    path: Vec<String>,
    /// Bytes of all paths that were compared with the patterns.
    path_bytes: usize,
}

/// A folder on the way down, with the names of the folders in it that were not entered yet. Only
/// names wait: a descriptor for each of them would let one guest take all of the operator's.
struct Level {
    folder: OwnedFd,
    below: std::vec::IntoIter<CString>,
}

impl Walk<'_> {
    fn run(&mut self, output: OwnedFd) -> Walked {
        let mut levels = vec![self.look_into(output)?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.below.next() else {
                levels.pop();
                self.path.pop();
                continue;
            };
            match found(tree::open_folder(&level.folder, name.as_c_str()))? {
                Found::Theirs => self.skip(&name, CHANGED),
                Found::Here(folder) => {
                    self.path.push(name.to_string_lossy().into_owned());
                    levels.push(self.look_into(folder)?);
                }
            }
        }
        Ok(())
    }

    /// Takes the files of a folder, and returns the folders in it.
    fn look_into(&mut self, folder: OwnedFd) -> Walked<Level> {
        self.budget.work()?;
        self.keep_folder()?;
        let (mut names, more) = tree::names(&folder, self.budget.entries_left())?;
        names.sort();
        let mut below = Vec::new();
        for name in names {
            match self.budget.entry() {
                Err(Spent::Entries) => return Err(self.too_many_entries()),
                other => other?,
            }
            if self.entry(&folder, &name)? {
                below.push(name);
            }
        }
        if more {
            return Err(self.too_many_entries());
        }
        Ok(Level { folder, below: below.into_iter() })
    }

    fn too_many_entries(&self) -> End {
        End::TooLarge(format!("more than {} entries", self.spec.max_entries))
    }

    /// A folder that the patterns take is kept, with or without files in it.
    fn keep_folder(&mut self) -> Walked {
        if !self.path.is_empty() && self.wanted(&self.path.join("/"))? {
            self.target.enter(&self.path)?;
        }
        Ok(())
    }

    fn wanted(&mut self, full: &str) -> Walked<bool> {
        self.path_bytes += full.len();
        if self.path_bytes > MAX_PATH_BYTES {
            return Err(End::TooLarge(format!(
                "paths of more than {MAX_PATH_BYTES} bytes, of all files and folders together"
            )));
        }
        Ok(self.globs.matches(full))
    }

    /// Takes the entry if it is a file. `true`: it is a folder to be entered.
    fn entry(&mut self, folder: &OwnedFd, name: &CStr) -> Walked<bool> {
        let Some(text) = plain_name(name) else {
            self.skip(name, "its name isn't printable UTF-8");
            return Ok(false);
        };
        // The kind comes before the file is opened: opening a device can already act.
        let stat = match found(rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW))? {
            Found::Here(stat) => stat,
            Found::Theirs => {
                self.skip(name, CHANGED);
                return Ok(false);
            }
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if self.path.len() + 1 >= MAX_DEPTH => {
                self.skip(name, "it is nested too deep");
            }
            FileType::Directory => return Ok(true),
            FileType::RegularFile => {
                let full = self.shown(name);
                if self.wanted(&full)? {
                    self.file(folder, name, text, full)?;
                }
            }
            other => self.skip(name, &format!("it is {}", kind_text(other))),
        }
        Ok(false)
    }

    fn file(&mut self, folder: &OwnedFd, name: &CStr, text: &str, full: String) -> Walked {
        let fd = match found(tree::open_file(folder, name))? {
            Found::Here(fd) => fd,
            Found::Theirs => {
                self.skip(name, CHANGED);
                return Ok(());
            }
        };
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            self.skip(name, CHANGED);
            return Ok(());
        }
        let executable = match virtfs::guest_type(&fd)? {
            GuestType::Regular { executable } => executable,
            GuestType::Unsaid => stat.st_mode & 0o111 != 0,
            GuestType::Other => {
                self.skip(name, "it is a link or a device of the guest");
                return Ok(());
            }
        };
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        self.fits(&full, size)?;
        self.target.enter(&self.path)?;
        let to = self.target.create(text, executable)?;
        let Some(sha256) = copy::copy(fd, to, size, self.budget)? else {
            self.target.remove(text)?;
            self.skip(name, CHANGED);
            return Ok(());
        };
        self.found.files.push(CollectedFile { path: full, size_bytes: size, sha256, executable });
        Ok(())
    }

    /// The size that the file *claims*: its holes cost no disk, but their digest costs time.
    fn fits(&mut self, full: &str, size: u64) -> Walked {
        if self.found.files.len() >= self.spec.max_files {
            return Err(End::TooLarge(format!("more than {} files", self.spec.max_files)));
        }
        let max = self.spec.max_bytes;
        let before = max - self.budget.bytes_left();
        self.budget.bytes(size).map_err(|_| {
            End::TooLarge(format!(
                "{full} has {size} bytes; with {before} before it that is more than {max}"
            ))
        })
    }

    fn shown(&self, name: &CStr) -> String {
        let name = name.to_string_lossy();
        if self.path.is_empty() {
            name.into_owned()
        } else {
            format!("{}/{name}", self.path.join("/"))
        }
    }

    fn skip(&mut self, name: &CStr, why: &str) {
        self.found.skipped_total += 1;
        if self.found.skipped.len() < MAX_SKIPPED {
            let path = bounded(self.shown(name));
            self.found.skipped.push(SkippedEntry { path, why: why.to_owned() });
        }
    }
}

/// A name that can stand in a status, a log and a terminal.
fn plain_name(name: &CStr) -> Option<&str> {
    match name.to_str() {
        Ok(text) if !text.chars().any(char::is_control) => Some(text),
        _ => None,
    }
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
