//! Files that `qemu-img` made, and files that no program should make.

use super::*;
use proptest::prelude::*;

pub fn header(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0; 200];
    bytes[..4].copy_from_slice(b"QFI\xfb");
    let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    for (at, value) in [(4, 3), (12, 104), (16, 7), (20, 16), (36, 2), (60, 1), (100, 104)] {
        put(at, value);
    }
    bytes[104..111].copy_from_slice(b"backing");
    change(&mut bytes);
    bytes
}

#[test]
fn what_qemu_may_move_is_not_identity_and_all_else_is() {
    let plain = Header::parse(&header(|_| {})).unwrap();
    assert_eq!((plain.cluster_bytes(), plain.l1_entries, plain.snapshots), (65536, 2, 1));
    for at in 0..111 {
        let changed = Header::parse(&header(|b| b[at] ^= 1));
        let moves = (36..72).contains(&at) || (88..96).contains(&at);
        // A table may move and grow, within bounds.
        let grown = changed.as_ref().is_err_and(|why| why.contains("entries"));
        let same = changed.is_ok_and(|changed| changed.identity == plain.identity);
        assert_eq!(same || grown, moves, "byte {at}");
    }
}

#[test]
fn what_is_not_read_is_refused() {
    let says = |change: fn(&mut Vec<u8>)| Header::parse(&header(change)).unwrap_err();
    assert!(says(|b| b[0] = 0).contains("no qcow2"));
    assert!(says(|b| b[7] = 2).contains("version 3"));
    assert!(says(|b| b[23] = 40).contains("2^40"));
    assert!(says(|b| b[79] = 4).contains("features"));
    assert!(says(|b| b[36] = 255).contains("entries"));
    assert!(says(|b| b[8] = 255).contains("beyond"));
    assert!(says(|b| b.truncate(50)).contains("beyond"));
    assert!(cluster(COMPRESSED | 65536).is_err());
    assert_eq!(
        (cluster(0), cluster(COPIED), cluster(COPIED | 65536)),
        (Ok(None), Ok(None), Ok(Some(65536)))
    );
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_file_of_qemu_s_own_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("disk");
    let img = |arguments: &[&str]| {
        let done = std::process::Command::new("qemu-img")
            .args(arguments)
            .arg(&file)
            .args(&["8M"][..usize::from(arguments[0] == "create")])
            .output();
        assert!(done.unwrap().status.success());
    };
    img(&["create", "-q", "-f", "qcow2"]);
    img(&["snapshot", "-c", "golden"]);
    let bytes = std::fs::read(&file).unwrap();
    let header = Header::parse(&bytes).unwrap();
    assert_eq!(header.snapshots, 1);
    let at = usize::try_from(header.snapshots_offset).unwrap();
    let snapshot = Snapshot::parse(&bytes[at..]).unwrap();
    assert_eq!((snapshot.name.as_str(), snapshot.l1_entries), ("golden", header.l1_entries));
    let l1 = usize::try_from(snapshot.l1_offset).unwrap();
    assert_eq!(entries(&bytes[l1..l1 + 8]).len(), 1);
}

proptest! {
    #[test]
    fn nothing_that_is_read_makes_it_fall(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = (Header::parse(&bytes), Snapshot::parse(&bytes), entries(&bytes));
        let mut headed = header(|_| {});
        for (at, byte) in bytes.iter().enumerate().filter(|(at,
            _)| *at < headed.len().min(200)).map(|(at, b)| (at, *b)).collect::<Vec<_>>() {
            if at >= 8 { headed[at] = byte; }
        }
        let _ = Header::parse(&headed);
    }

    #[test]
    fn one_changed_byte_is_read_or_refused(at in 0_usize..200, byte in any::<u8>()) {
        let _ = Header::parse(&header(|b| b[at] = byte));
    }
}
