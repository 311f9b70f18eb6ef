//! Is a machine's disk the golden's? The file is read from outside, while QEMU is paused and has
//! written out its tables.
//!
//! Two facts prove it. Every cluster that the snapshot leads to equals that cluster of the golden's
//! own file. And the tables that the machine will use are the snapshot's. Nothing leads to the rest
//! of the file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::qcow2::{self, COPIED, Header, Snapshot, cluster, entries};
use crate::HvError;
use crate::files::io;

/// More than a snapshot of device state and tables ever has.
const CLUSTERS_MAX: usize = 1 << 16;
/// Read at once.
const RUN_MAX: u64 = 1 << 20;

/// The clusters that a golden's snapshot leads to. Made once for each golden, because its files
/// never change.
#[derive(Debug)]
pub struct Reference {
    file: File,
    header: Header,
    snapshot: Snapshot,
    l1: Vec<u64>,
    /// Offsets of second-level tables, and runs (offset, length) of clusters with data.
    tables: Vec<u64>,
    runs: Vec<(u64, u64)>,
}

type Found<T> = Result<T, String>;

impl Reference {
    pub fn open(golden: &Path) -> Result<Self, HvError> {
        let file = File::open(golden).map_err(io("open", golden))?;
        Self::read(file).map_err(|detail| HvError::Refused {
            what: format!("read {}", golden.display()),
            detail,
        })
    }

    fn read(file: File) -> Found<Self> {
        let header = read_header(&file)?;
        let snapshot = read_snapshot(&file, &header)?;
        let l1 = read_table(&file, snapshot.l1_offset, snapshot.l1_entries)?;
        let mut tables = Vec::new();
        let mut clusters = Vec::new();
        for entry in &l1 {
            let Some(table) = cluster(*entry)? else { continue };
            tables.push(table);
            for entry in entries(&read(&file, table, header.cluster_bytes())?) {
                clusters.extend(cluster(entry)?);
            }
            if clusters.len() > CLUSTERS_MAX {
                return Err(format!("its snapshot has more than {CLUSTERS_MAX} clusters"));
            }
        }
        let runs = runs(clusters, header.cluster_bytes() as u64);
        Ok(Self { file, header, snapshot, l1, tables, runs })
    }

    /// `Err` names the part of the machine's file that differs from the golden's.
    pub fn check(&self, overlay: &Path) -> Result<Found<()>, HvError> {
        let overlay = File::open(overlay).map_err(io("open", overlay))?;
        Ok(self.compare(&overlay))
    }

    fn compare(&self, overlay: &File) -> Found<()> {
        let header = read_header(overlay)?;
        if header.identity != self.header.identity {
            return Err("its header or its backing file is another".to_owned());
        }
        let snapshot = read_snapshot(overlay, &header)?;
        if snapshot.bytes != self.snapshot.bytes {
            return Err("its snapshot is another".to_owned());
        }
        let l1 = read_table(overlay, snapshot.l1_offset, snapshot.l1_entries)?;
        if !same(&l1, &self.l1) {
            return Err("the snapshot's first-level table has changed".to_owned());
        }
        self.compare_tables(overlay)?;
        self.compare_data(overlay)?;
        let active = read_table(overlay, header.l1_offset, header.l1_entries)?;
        let (used, rest) =
            active.split_at_checked(self.l1.len()).ok_or("its active table is too short")?;
        if !same(used, &self.l1) || rest.iter().any(|entry| *entry != 0) {
            return Err("its active table isn't the snapshot's".to_owned());
        }
        Ok(())
    }

    fn compare_tables(&self, overlay: &File) -> Found<()> {
        for table in &self.tables {
            let length = self.header.cluster_bytes();
            let (theirs, ours) =
                (read(overlay, *table, length)?, read(&self.file, *table, length)?);
            if theirs != ours && !same(&entries(&theirs), &entries(&ours)) {
                return Err(format!("the snapshot's table at {table:#x} has changed"));
            }
        }
        Ok(())
    }

    fn compare_data(&self, overlay: &File) -> Found<()> {
        for (offset, length) in &self.runs {
            let length = usize::try_from(*length).map_err(|e| e.to_string())?;
            if read(overlay, *offset, length)? != read(&self.file, *offset, length)? {
                return Err(format!("the snapshot's data at {offset:#x} has changed"));
            }
        }
        Ok(())
    }
}

/// It ignores the flag for the number of a cluster's users.
fn same(one: &[u64], other: &[u64]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a & !COPIED == b & !COPIED)
}

/// Neighbours are read together.
fn runs(mut clusters: Vec<u64>, bytes: u64) -> Vec<(u64, u64)> {
    clusters.sort_unstable();
    clusters.dedup();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for at in clusters {
        match runs.last_mut() {
            Some((start, length)) if *start + *length == at && *length < RUN_MAX => {
                *length += bytes;
            }
            _ => runs.push((at, bytes)),
        }
    }
    runs
}

fn read_header(file: &File) -> Found<Header> {
    let mut bytes = vec![0; qcow2::HEADER_MAX];
    let length = read_some(file, 0, &mut bytes)?;
    Header::parse(&bytes[..length])
}

fn read_snapshot(file: &File, header: &Header) -> Found<Snapshot> {
    if header.snapshots != 1 {
        return Err(format!("it has {} snapshots instead of one", header.snapshots));
    }
    let mut bytes = vec![0; qcow2::ENTRY_MAX];
    let length = read_some(file, header.snapshots_offset, &mut bytes)?;
    Snapshot::parse(&bytes[..length])
}

fn read_table(file: &File, offset: u64, length: u32) -> Found<Vec<u64>> {
    read(file, offset, length as usize * 8).map(|bytes| entries(&bytes))
}

fn read(file: &File, offset: u64, length: usize) -> Found<Vec<u8>> {
    let mut bytes = vec![0; length];
    // The last cluster of a file may be short; the rest is zeros, as for QEMU.
    read_some(file, offset, &mut bytes)?;
    Ok(bytes)
}

fn read_some(file: &File, offset: u64, into: &mut [u8]) -> Found<usize> {
    let mut filled = 0;
    while filled < into.len() {
        let at = offset.checked_add(filled as u64).ok_or("it points beyond any file")?;
        match file
            .read_at(&mut into[filled..], at)
            .map_err(|e| format!("it can't be read at {at:#x}: {e}"))?
        {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
