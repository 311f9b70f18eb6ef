//! The inspection of the machine besides its kernel: the second line of the proof of its golden
//! state.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;

use agentvm_guest_agent::protocol::{Inspection, Nonce};
use rustix::process::WaitOptions;

/// Everything that is there now. A thing that cannot be read is not there.
pub fn machine(golden: Option<Nonce>) -> Inspection {
    // The dead are no state: whether the reaper had its turn already is chance.
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
    let pids = descendants().unwrap_or_else(everyone);
    let stats = pids.into_iter().filter_map(|pid| fs::read(format!("/proc/{pid}/stat")).ok());
    let table: Vec<Process> = stats.filter_map(|stat| Process::parse(&stat)).collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    Inspection::new(golden, names(&table), mounts.lines().filter_map(mount).collect())
}

/// The first process and its descendants: everything but the kernel's threads. Those descend from
/// the second process and are by far the most. An orphan is a child of the first process. `None`
/// means that this kernel does not list children.
fn descendants() -> Option<Vec<u32>> {
    let (mut found, mut next) = (vec![1], 0);
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            match fs::read_to_string(thread.path().join("children")) {
                Ok(children) => {
                    found.extend(
                        children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()),
                    );
                }
                Err(why) if why.kind() == ErrorKind::NotFound && pid == 1 => return None,
                Err(_) => {}
            }
        }
    }
    found.sort_unstable();
    Some(found)
}

/// Every process that runs a program, one by one.
fn everyone() -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let runs_a_program = |pid: &u32| match fs::read_link(format!("/proc/{pid}/exe")) {
        Err(why) => why.kind() != ErrorKind::NotFound,
        Ok(_) => true,
    };
    pids.filter(runs_a_program).collect()
}

/// A line of the process table, reduced to the parts that matter.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    name: String,
}

impl Process {
    /// Reads `/proc/PID/stat`. The second field, the name, is in brackets and may contain any text.
    fn parse(stat: &[u8]) -> Option<Self> {
        let open = stat.iter().position(|b| *b == b'(')?;
        let close = stat.iter().rposition(|b| *b == b')')?;
        let pid = std::str::from_utf8(stat.get(..open)?).ok()?.trim().parse().ok()?;
        let printable = |b: &u8| {
            if b.is_ascii_alphanumeric() || b"-_.:+".contains(b) { char::from(*b) } else { '?' }
        };
        let name = stat.get(open + 1..close)?.iter().map(printable).collect();
        let mut rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?.split_ascii_whitespace();
        let parent = rest.nth(1)?.parse().ok()?;
        Some(Self { pid, parent, name })
    }
}

fn names(table: &[Process]) -> Vec<String> {
    let known: BTreeMap<u32, &str> =
        table.iter().map(|process| (process.pid, process.name.as_str())).collect();
    let line = |process: &Process| {
        let parent = known.get(&process.parent).copied().unwrap_or_default();
        format!("{}<{parent}", process.name)
    };
    table.iter().map(line).collect()
}

/// Reads a line of `mountinfo`: the fifth field is the mount point; type and source follow a lone
/// hyphen. The kernel escapes blanks in them.
fn mount(line: &str) -> Option<String> {
    let (before, after) = line.split_once(" - ")?;
    let point = before.split(' ').nth(4)?;
    let mut fields = after.split(' ');
    Some(format!("{point} {} {}", fields.next()?, fields.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_shows_with_its_parent() {
        let stats: [&[u8]; 2] = [
            b"1 (agentvm-guest) S 0 1 1 0 -1 4194560 5 0 0 0",
            b"77 (a) b\n(c) Z 1 0 0 0 -1 4194560 0 0 0 0",
        ];
        let table: Vec<Process> = stats.iter().filter_map(|stat| Process::parse(stat)).collect();
        assert_eq!(names(&table), ["agentvm-guest<", "a??b??c<agentvm-guest"]);
        for cut in ["", "1", "1 (", "1 (x", "1 (x)", "1 (x) S", "1 (x) S z"] {
            assert_eq!(Process::parse(cut.as_bytes()), None, "{cut:?}");
        }
    }

    #[test]
    fn a_mount_is_its_point_type_and_source() {
        let line =
            r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        assert_eq!(mount(line).unwrap(), r"/mnt\0402 ext3 /dev/root");
        assert_eq!(mount("36 35 98:0"), None);
    }
}
