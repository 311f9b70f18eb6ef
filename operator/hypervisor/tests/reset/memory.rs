//! A machine's memory page by page, read from outside, against its golden's.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use agentvm_core::names::DomainName;

const PAGE: usize = 4096;
/// `/proc/PID/pagemap`: the page is there; it is the file's.
const PRESENT: u64 = 1 << 63;
const OF_FILE: u64 = 1 << 61;

pub fn pid(machine: &DomainName) -> u32 {
    std::fs::read_to_string(format!("/run/libvirt/qemu/{machine}.pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// The addresses of guest memory whose page is the machine's own, and the addresses of pages that
/// differ from the golden's file.
pub fn own_and_different(machine: &DomainName, golden: &Path) -> (Vec<u64>, Vec<u64>) {
    let pid = pid(machine);
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = maps.lines().find(|line| line.ends_with(golden.to_str().unwrap())).unwrap();
    let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
    let (start, end) =
        (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
    let open = |path: String| File::open(path).unwrap();
    let (memory, table) = (open(format!("/proc/{pid}/mem")), open(format!("/proc/{pid}/pagemap")));
    let golden = File::open(golden).unwrap();
    let (mut own, mut different) = (Vec::new(), Vec::new());
    let (mut theirs, mut ours) = (vec![0; PAGE], vec![0; PAGE]);
    for at in (0..end - start).step_by(PAGE) {
        let mut entry = [0; 8];
        table.read_exact_at(&mut entry, (start + at) / PAGE as u64 * 8).unwrap();
        let entry = u64::from_ne_bytes(entry);
        // A page that is not there will be read from the file.
        if entry & PRESENT == 0 {
            continue;
        }
        if entry & OF_FILE == 0 {
            own.push(at);
        }
        memory.read_exact_at(&mut theirs, start + at).unwrap();
        golden.read_exact_at(&mut ours, at).unwrap();
        if theirs != ours {
            different.push(at);
        }
    }
    (own, different)
}
