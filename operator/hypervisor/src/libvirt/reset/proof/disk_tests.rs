//! Disks that `qemu-io` wrote to, and that `qemu-img` put back as QEMU does it, or only in part.

use super::*;
use proptest::prelude::*;
use std::path::PathBuf;
use std::process::Command;

struct Disks {
    dir: tempfile::TempDir,
}

impl Disks {
    /// A golden with a snapshot over a backing file, and a machine's copy.
    fn new() -> Self {
        let disks = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::write(disks.path("base"), vec![7; 4 << 20]).unwrap();
        disks.img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base", "golden"]);
        disks.write("golden", "write -P 1 0 128k");
        disks.img(&["snapshot", "-c", "golden", "golden"]);
        std::fs::copy(disks.path("golden"), disks.path("machine")).unwrap();
        disks
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn img(&self, arguments: &[&str]) {
        let done =
            Command::new("qemu-img").args(arguments).current_dir(self.dir.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn write(&self, disk: &str, what: &str) {
        let done = Command::new("qemu-io")
            .args(["-f", "qcow2", "-c", what, disk])
            .current_dir(self.dir.path())
            .output();
        assert!(done.unwrap().status.success());
    }

    fn back(&self) {
        self.img(&["snapshot", "-a", "golden", "machine"]);
    }

    fn says(&self) -> Found<()> {
        Reference::open(&self.path("golden")).unwrap().check(&self.path("machine")).unwrap()
    }
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn what_a_machine_wrote_is_seen_until_it_is_put_back() {
    let disks = Disks::new();
    assert_eq!(disks.says(), Ok(()));
    for (n, write) in ["write -P 2 0 64k", "write -P 3 1M 1M", "discard 0 128k", "write -z 64k 64k"]
        .iter()
        .enumerate()
    {
        disks.write("machine", write);
        assert!(disks.says().unwrap_err().contains("active"), "{write}");
        disks.back();
        assert_eq!(disks.says(), Ok(()), "after {} ways back", n + 1);
    }
    disks.img(&["check", "-q", "machine"]);
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn another_snapshot_or_another_backing_file_is_not_this_golden() {
    let disks = Disks::new();
    disks.img(&["snapshot", "-c", "second", "machine"]);
    assert!(disks.says().unwrap_err().contains("2 snapshots"));
    let disks = Disks::new();
    std::fs::copy(disks.path("base"), disks.path("bass")).unwrap();
    disks.img(&["rebase", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "bass", "machine"]);
    assert!(disks.says().unwrap_err().contains("backing file"));
    let disks = Disks::new();
    disks.img(&["snapshot", "-d", "golden", "machine"]);
    disks.img(&["snapshot", "-c", "golden", "machine"]);
    assert!(disks.says().is_err(), "a snapshot of the same name taken at another time");
    std::fs::write(disks.path("machine"), "").unwrap();
    assert!(disks.says().is_err());
}

#[test]
fn clusters_that_stand_together_are_read_together() {
    assert_eq!(
        runs(vec![0x30000, 0x10000, 0x20000, 0x10000, 0x50000], 0x10000),
        [(0x10000, 0x30000), (0x50000, 0x10000)]
    );
    assert_eq!(runs(vec![], 512), []);
}

/// Any byte that the snapshot leads to.
fn places(golden: &Reference) -> Vec<(u64, u64)> {
    let tables = golden.tables.iter().map(|at| (*at, golden.header.cluster_bytes() as u64));
    let l1 = (golden.snapshot.l1_offset, u64::from(golden.snapshot.l1_entries) * 8);
    let entry = (golden.header.snapshots_offset, golden.snapshot.bytes.len() as u64);
    golden
        .runs
        .iter()
        .copied()
        .chain(tables)
        .chain([l1, entry, (golden.header.l1_offset, 8)])
        .collect()
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_change_of_any_byte_that_matters_is_seen() {
    let disks = Disks::new();
    let golden = Reference::open(&disks.path("golden")).unwrap();
    let places = places(&golden);
    let machine = File::options().read(true).write(true).open(disks.path("machine")).unwrap();
    proptest!(|(place in 0..places.len(), at in any::<u64>(), flip in 1_u8..)| {
        let (start, length) = places[place];
        let at = start + at % length;
        let before = read(&machine, at, 1).unwrap()[0];
        machine.write_all_at(&[before ^ flip], at).unwrap();
        let seen = golden.compare(&machine);
        machine.write_all_at(&[before], at).unwrap();
        // The flag for one user only is QEMU's to change, in a table.
        let data = golden.runs.iter().any(|run| *run == places[place]) ||
            start == golden.header.snapshots_offset;
        prop_assert!(seen.is_err() || (flip == 0x80 && at % 8 == 0 && !data),
            "{at:#x} of {start:#x}");
    });
    assert_eq!(golden.compare(&machine), Ok(()));
}

proptest! {
    #[test]
    #[cfg_attr(not(feature = "host-tests"), ignore = "needs root and programs of the host: make \
        test-host")]
    fn a_hostile_file_is_refused_and_takes_nothing_with_it(at in 0_u64..512,
        bytes in prop::collection::vec(any::<u8>(), 1..9)) {
        thread_local! { static DISKS: Disks = Disks::new(); }
        DISKS.with(|disks| {
            let golden = Reference::open(&disks.path("golden")).unwrap();
            let copy = disks.path("hostile");
            std::fs::copy(disks.path("golden"), &copy).unwrap();
            File::options().write(true).open(&copy).unwrap().write_all_at(&bytes, at).unwrap();
            let _ = golden.check(&copy).unwrap();
            let _ = Reference::open(&copy);
        });
    }
}
