//! Is every page of a machine's memory the golden's? The kernel answers; the guest cannot influence
//! it.
//!
//! A page that the machine has written is anonymous from then on, in memory or swapped out. Pages
//! of the file itself may be dirty (on tmpfs they always are), so `Private_Dirty` adds nothing to
//! `Anonymous`.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::HvError;
use crate::files::io;
use crate::libvirt::qemu::process;
use crate::libvirt::qemu::smaps::{self, Mapping, Place};

/// The size of one read; the kernel fills a page of it at a time.
const CHUNK: usize = 16 << 10;
/// `O_ACCMODE` of `/proc/PID/fdinfo`.
const ACCESS_MODE: u32 = 0o3;

/// `Err` tells what there is instead of one clean private mapping of `bytes`.
pub fn check(pid: u32, memory: &Path, bytes: u64) -> Result<Result<(), String>, HvError> {
    let path = memory.to_string_lossy();
    let found = smaps::of(&read_until(pid, &path)?, &path, Place::File);
    let mappings = count(pid, &path)?;
    if mappings != found.len() {
        return Ok(Err(format!("{mappings} mappings of the golden memory instead of one")));
    }
    let inode = fs::metadata(memory).map_err(io("look at", memory))?.ino();
    Ok(judge(&found, (&memory.to_string_lossy(), inode), bytes)
        .and_then(|()| descriptors(pid, memory)))
}

/// The table up to the end of the first mapping of `path`. Writing an entry costs the kernel far
/// more than a line of `maps`, and a QEMU has hundreds of them.
fn read_until(pid: u32, path: &str) -> Result<String, HvError> {
    let name = process::folder(pid).join("smaps");
    let failed = || io("read (this needs root and the host's process IDs)", &name);
    let mut file = fs::File::open(&name).map_err(failed())?;
    let (mut table, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    let (mut looked_at, mut entry) = (0, None);
    loop {
        let read = file.read(&mut chunk).map_err(failed())?;
        table.extend_from_slice(chunk.get(..read).unwrap_or_default());
        entry = entry.or_else(|| find(&table, looked_at, path.as_bytes()));
        looked_at = table.len().saturating_sub(path.len());
        let flags = entry.and_then(|entry| find(&table, entry, b"VmFlags:"));
        if read == 0 || flags.is_some_and(|flags| find(&table, flags, b"\n").is_some()) {
            // A path that is not UTF-8 belongs to another file.
            return Ok(String::from_utf8_lossy(&table).into_owned());
        }
    }
}

/// The position of `what`, at `from` or later.
fn find(table: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    let at = table.get(from..)?.windows(what.len()).position(|window| window == what)?;
    Some(from + at)
}

/// The total number of its mappings.
fn count(pid: u32, path: &str) -> Result<usize, HvError> {
    let name = process::folder(pid).join("maps");
    let table =
        fs::read(&name).map_err(io("read (this needs root and the host's process IDs)", &name))?;
    Ok(String::from_utf8_lossy(&table).lines().filter(|line| line.contains(path)).count())
}

/// It compares the inode and the path: the path may be another file's where the process has mounts
/// of its own. The device is not compared, because some file systems give the kernel's table
/// another number than `stat`.
fn judge(found: &[Mapping], (memory, inode): (&str, u64), bytes: u64) -> Result<(), String> {
    let [mapping] = found else {
        return Err(format!("{} mappings of the golden memory instead of one", found.len()));
    };
    let kib = |name| mapping.kib(name).ok_or_else(|| format!("the kernel doesn't tell {name}"));
    let (anonymous, swapped) = (kib("Anonymous")?, kib("Swap")?);
    match () {
        () if mapping.path != memory => Err(format!("the mapped file is {}", mapping.path)),
        () if mapping.file.1 != inode.to_string() => {
            Err(format!("the mapped file is another {memory}"))
        }
        () if mapping.permissions != "rw-p" => {
            Err(format!("the mapping is {}, not private", mapping.permissions))
        }
        () if mapping.flags.is_empty() => Err("the kernel doesn't tell VmFlags".to_owned()),
        () if mapping.flags.iter().any(|flag| flag == "sh" || flag == "ms") => {
            Err("the mapping is shared or may become so".to_owned())
        }
        () if (mapping.offset, mapping.bytes) != (0, bytes) => Err(format!(
            "{} bytes from {} are mapped instead of {bytes}",
            mapping.bytes, mapping.offset
        )),
        () if anonymous + swapped > 0 => {
            Err(format!("{anonymous} KiB of private pages and {swapped} KiB swapped out are left"))
        }
        () => Ok(()),
    }
}

/// Every descriptor of the golden memory that the process holds can only read.
fn descriptors(pid: u32, memory: &Path) -> Result<(), String> {
    let unreadable = |e: std::io::Error| format!("its open files can't be looked at: {e}");
    let golden = fs::metadata(memory).map_err(unreadable)?;
    for entry in fs::read_dir(process::folder(pid).join("fd")).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // A descriptor that was closed meanwhile cannot be used any more.
        let Ok(open) = fs::metadata(entry.path()) else { continue };
        if (open.dev(), open.ino()) != (golden.dev(), golden.ino()) {
            continue;
        }
        let info = process::folder(pid).join("fdinfo").join(entry.file_name());
        let flags = fs::read_to_string(info).map_err(unreadable)?;
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("").trim();
        if u32::from_str_radix(flags, 8).map_or(true, |flags| flags & ACCESS_MODE != 0) {
            return Err("it holds the golden memory open for writing".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libvirt::qemu::smaps::tests::text;

    const FINE: &str = "rd wr mr mw me ac";
    const INODE: u64 = 1234;

    fn says(table: &str) -> Result<(), String> {
        judge(&smaps::of(table, "/g/memory", Place::File), ("/g/memory", INODE), 512 << 20)
    }

    #[test]
    fn only_one_clean_private_whole_mapping_will_do() {
        assert_eq!(says(&text("rw-p", "/g/memory", 0, FINE)), Ok(()));
        let why = |table: &str| says(table).unwrap_err();
        assert!(why(&text("rw-p", "/g/memory", 4, FINE)).contains("4 KiB of private pages"));
        assert!(why(&text("rw-s", "/g/memory", 0, FINE)).contains("not private"));
        assert!(why(&text("rw-p", "/g/memory", 0, "rd wr sh")).contains("shared"));
        assert!(why(&text("rw-p", "/g/memory", 0, "rd wr ms")).contains("shared"));
        assert!(why(&text("rw-p", "/g/memory", 0, "")).contains("VmFlags"));
        assert!(why(&text("rw-p", "/x/g/memory", 0, FINE)).contains("/x/g/memory"));
        assert!(why(&text("rw-p", "/g/memory (deleted)", 0, FINE)).contains("deleted"));
        let other = text("rw-p", "/g/memory", 0, FINE).replace(&format!(" {INODE} "), " 7 ");
        assert!(why(&other).contains("another /g/memory"));
        assert!(why("").contains("0 mappings"));
        assert!(why(&text("rw-p", "/g/memory", 0, FINE).repeat(2)).contains("2 mappings"));
        let lacking = text("rw-p", "/g/memory", 0, FINE).replace("Swap:", "Swop:");
        assert!(why(&lacking).contains("Swap"));
        assert!(
            why(&text("rw-p", "/g/memory", 0, FINE).replace("Swap:                  0", "Swap: 12"))
                .contains("12 KiB swapped")
        );
        assert!(
            judge(
                &smaps::of(&text("rw-p", "/g/memory", 0, FINE), "/g/memory", Place::File),
                ("/g/memory", INODE),
                4096
            )
            .is_err()
        );
    }

    #[test]
    fn a_descriptor_that_can_write_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory");
        fs::write(&file, "x").unwrap();
        let held = fs::File::open(&file).unwrap();
        assert_eq!(descriptors(std::process::id(), &file), Ok(()));
        let writing = fs::OpenOptions::new().append(true).open(&file).unwrap();
        assert!(descriptors(std::process::id(), &file).unwrap_err().contains("for writing"));
        drop((held, writing));
    }
}
