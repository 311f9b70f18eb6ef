//! Detects programs for another kind of machine. The C library passes a program that the kernel
//! can't execute to the shell, whose error message is misleading. Therefore the check runs before
//! any start.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const MAGIC: &[u8] = b"\x7fELF";
/// The field of an ELF header that has the machine.
const MACHINE: std::ops::Range<usize> = 18..20;

/// Whether the file is an ELF program for another machine than this one. A script runs on every
/// machine.
pub fn is_foreign(program: &Path) -> io::Result<bool> {
    let header = header(program)?;
    if !header.starts_with(MAGIC) {
        return Ok(false);
    }
    let ours = self::header(Path::new("/proc/self/exe"))?;
    Ok(header.get(MACHINE) != ours.get(MACHINE))
}

fn header(path: &Path) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    File::open(path)?.take(MACHINE.end as u64).read_to_end(&mut header)?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn our_own_kind_and_scripts_are_not_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        assert!(!is_foreign(&script).unwrap());
        assert!(!is_foreign(&std::env::current_exe().unwrap()).unwrap());
    }

    #[test]
    fn another_machine_and_a_truncated_file_are_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let mut elf = header(Path::new("/proc/self/exe")).unwrap();
        let path = dir.path().join("elf");
        elf[MACHINE.start] ^= 1;
        fs::write(&path, &elf).unwrap();
        assert!(is_foreign(&path).unwrap());
        fs::write(&path, MAGIC).unwrap();
        assert!(is_foreign(&path).unwrap());
    }
}
