//! Whether a program is for this kind of machine. The C library hands a program that the kernel doesn't know to the
//! shell, whose complaint helps nobody: so this is looked at before anything starts.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const MAGIC: &[u8] = b"\x7fELF";
/// Where an ELF header says which machine it is for.
const MACHINE: std::ops::Range<usize> = 18..20;

/// Whether it is an ELF program of another machine than the one we run on. A script is for every machine.
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
