//! Finds a process's mappings of one file, and checks them. Pure.

/// A mapping of the golden file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub start: usize,
    pub end: usize,
    pub offset: u64,
    /// Readable, writable, private: nothing else may be dropped, nor may stay.
    pub as_wanted: bool,
}

/// The lines of `/proc/PID/maps` whose path is `file`. The kernel writes a newline in a path as
/// `\012`.
pub fn of(table: &[u8], file: &[u8]) -> Vec<Mapping> {
    let escaped = file
        .iter()
        .flat_map(|byte| if *byte == b'\n' { &b"\\012"[..] } else { std::slice::from_ref(byte) });
    let file: Vec<u8> = escaped.copied().collect();
    table.split(|byte| *byte == b'\n').filter_map(|line| parse(line, &file)).collect()
}

/// `start-end perms offset dev inode     path`
fn parse(line: &[u8], file: &[u8]) -> Option<Mapping> {
    let rest = line.strip_suffix(file)?;
    // A relative path, or a longer one with this ending, is another file.
    let mut fields = std::str::from_utf8(rest).ok()?.split(' ').filter(|field| !field.is_empty());
    let (range, permissions, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let (_device, _inode, None) = (fields.next()?, fields.next()?, fields.next()) else {
        return None;
    };
    let (start, end) = range.split_once('-')?;
    Some(Mapping {
        start: usize::from_str_radix(start, 16).ok()?,
        end: usize::from_str_radix(end, 16).ok()?,
        offset: u64::from_str_radix(offset, 16).ok()?,
        as_wanted: permissions == "rw-p",
    })
}

/// Do these mappings hold every byte of a file of `size` bytes exactly once, all privately?
pub fn check(mappings: &[Mapping], size: u64) -> Result<(), String> {
    if mappings.is_empty() {
        return Err("the golden memory is not mapped".to_owned());
    }
    if let Some(odd) = mappings.iter().find(|mapping| !mapping.as_wanted) {
        return Err(format!(
            "the mapping at {:x} is not private, readable and writable",
            odd.start
        ));
    }
    let mut sorted = mappings.to_vec();
    sorted.sort_by_key(|mapping| mapping.offset);
    let mut covered = 0;
    for mapping in &sorted {
        let length =
            mapping.end.checked_sub(mapping.start).ok_or("a mapping ends before it begins")?;
        if mapping.offset != covered {
            return Err(format!("the mappings have a gap or overlap at {covered:#x}"));
        }
        covered += length as u64;
    }
    if covered == size { Ok(()) } else { Err(format!("{covered} bytes are mapped of {size}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
00400000-00500000 r-xp 00000000 fe:00 12 /usr/bin/qemu
7f0000000000-7f0000200000 rw-p 00000000 fe:00 34                         /g/memory
7f0000200000-7f0000400000 rw-p 00200000 fe:00 34                         /g/memory
7f0001000000-7f0001200000 rw-p 00000000 fe:00 35                         /other/g/memory
7f0002000000-7f0002200000 rw-s 00000000 fe:00 36                         /s/memory
7f0003000000-7f0003200000 rw-p 00000000 fe:00 37                         /g/memory (deleted)
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
";

    #[test]
    fn the_file_s_mappings_are_found_and_no_others() {
        let found = of(TABLE, b"/g/memory");
        assert_eq!(
            found.iter().map(|m| (m.start, m.offset)).collect::<Vec<_>>(),
            [(0x7f00_0000_0000, 0), (0x7f00_0020_0000, 0x20_0000)]
        );
        assert_eq!(check(&found, 4 << 20), Ok(()));
        assert_eq!(of(b"1000-2000 rw-p 00000000 fe:00 1 /a\\012b", b"/a\nb").len(), 1);
    }

    #[test]
    fn anything_but_the_whole_private_file_is_refused() {
        let found = of(TABLE, b"/g/memory");
        assert!(check(&[], 4096).unwrap_err().contains("not mapped"));
        assert!(check(&found, 8 << 20).unwrap_err().contains("of 8388608"));
        assert!(check(&found[1..], 4 << 20).unwrap_err().contains("gap"));
        assert!(check(&[found[0], found[0]], 4 << 20).unwrap_err().contains("overlap"));
        assert!(check(&of(TABLE, b"/s/memory"), 2 << 20).unwrap_err().contains("not private"));
    }

    #[test]
    fn garbage_is_no_mapping() {
        for line in ["", "x", "-", "1-2", "zz-1 rw-p 0 a b /g", "1-2 rw-p 0 a b c /g", "\u{fffd}/g"]
        {
            assert_eq!(of(line.as_bytes(), b"/g"), [], "{line}");
        }
    }
}
