//! `/proc/PID/smaps`: the memory mappings of a process, as far as the golden memory goes.
//!
//! The parser is pure. It gets the kernel's table as text.

use std::fs;
use std::path::Path;

use super::process;
use crate::HvError;
use crate::files::io;

/// One mapping of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    pub bytes: u64,
    pub offset: u64,
    /// `rw-p`
    pub permissions: String,
    /// Device and inode, as the kernel writes them.
    pub file: (String, String),
    pub path: String,
    /// KiB.
    pub fields: Vec<(String, u64)>,
    pub flags: Vec<String>,
}

impl Mapping {
    pub fn kib(&self, name: &str) -> Option<u64> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, kib)| *kib)
    }
}

/// Which paths are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This file, also deleted; whether a longer path that ends the same is meant, the caller sees.
    File,
    /// Everything below this folder.
    Within,
}

/// The whole table of a process.
pub fn read(pid: u32) -> Result<String, HvError> {
    let file = process::folder(pid).join("smaps");
    let table =
        fs::read(&file).map_err(io("read (this needs root and the host's process IDs)", &file))?;
    // A path that is not UTF-8 belongs to another file.
    Ok(String::from_utf8_lossy(&table).into_owned())
}

/// The mappings of the files at `path`.
///
/// It searches the text first and reads only those entries: a QEMU has hundreds of mappings.
pub fn of(table: &str, path: &str, place: Place) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(hit) = table.get(at..).and_then(|rest| rest.find(path)) {
        let hit = at + hit;
        let start = table[..hit].rfind('\n').map_or(0, |n| n + 1);
        let end = table[hit..].find('\n').map_or(table.len(), |n| hit + n);
        let wanted = |mapping: &Mapping| match place {
            Place::File => true,
            Place::Within => Path::new(&mapping.path).starts_with(path),
        };
        if let Some(mapping) = header(&table[start..end]).filter(wanted) {
            found.push(body(mapping, table.get(end + 1..).unwrap_or_default()));
        }
        at = end;
    }
    found
}

/// The sum of one field over all mappings, in KiB. `field` with its colon.
pub fn total(table: &str, field: &str) -> u64 {
    let values = table.lines().filter_map(|line| {
        line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    values.sum()
}

/// `start-end perms offset dev inode     path`
fn header(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut next = || {
        let (field, after) = rest.split_once(' ')?;
        rest = after;
        Some(field)
    };
    let (range, permissions, offset, device, inode) = (next()?, next()?, next()?, next()?, next()?);
    let (start, end) = range.split_once('-')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    Some(Mapping {
        bytes: hex(end)?.checked_sub(hex(start)?)?,
        offset: hex(offset)?,
        permissions: permissions.to_owned(),
        file: (device.to_owned(), inode.to_owned()),
        path: rest.trim_start_matches(' ').to_owned(),
        ..Mapping::default()
    })
}

/// `Name:   12 kB` up to the flags, which come last.
fn body(mut mapping: Mapping, rest: &str) -> Mapping {
    for line in rest.lines() {
        let Some((name, value)) = line.split_once(':') else { break };
        if name == "VmFlags" {
            mapping.flags = value.split_whitespace().map(str::to_owned).collect();
            break;
        }
        if let Some(kib) = value.trim().strip_suffix(" kB").and_then(|number| number.parse().ok()) {
            mapping.fields.push((name.to_owned(), kib));
        }
    }
    mapping
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A mapping as the kernel writes it.
    pub fn text(permissions: &str, path: &str, anonymous: u64, flags: &str) -> String {
        format!(
            "7f5a00000000-7f5a20000000 {permissions} 00000000 fe:00 \
                1234                       {path}\n\
             Size:             524288 kB\nRss:               20480 kB\nPss:               10240 \
             kB\n\
             Private_Dirty:         0 kB\nAnonymous:      {anonymous:>8} \
             kB\nSwap:                  0 kB\n\
             THPeligible:           0\nVmFlags: {flags}\n"
        )
    }

    #[test]
    fn the_file_s_entries_are_read_and_no_others() {
        let other = text("r--p", "/usr/lib/memory.so", 4, "rd mr mw me");
        let table = format!("{other}{}{other}", text("rw-p", "/g/memory", 8, "rd wr mr mw me ac"));
        let found = of(&table, "/g/memory", Place::File);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].bytes, found[0].permissions.as_str()), (512 << 20, "rw-p"));
        assert_eq!(
            (found[0].kib("Anonymous"), found[0].kib("Pss"), found[0].kib("None")),
            (Some(8), Some(10240), None)
        );
        assert_eq!(found[0].flags, ["rd", "wr", "mr", "mw", "me", "ac"]);
        assert_eq!(found[0].file, ("fe:00".to_owned(), "1234".to_owned()));
        let deleted = text("rw-p", "/g/memory (deleted)", 0, "");
        assert_eq!(of(&deleted, "/g/memory", Place::File)[0].path, "/g/memory (deleted)");
        assert_eq!(of("/g/memory", "/g/memory", Place::File), []);
        assert_eq!(of("", "/g/memory", Place::File), []);
        assert_eq!(of(&table, "/g", Place::Within).len(), 1);
        assert_eq!(of(&table, "/usr/li", Place::Within), []);
        assert_eq!((total(&table, "Pss:"), total("", "Pss:")), (3 * 10240, 0));
    }
}
