//! The parts of qcow2 files that an internal snapshot needs: header, snapshot table, and the two
//! levels of tables that lead to clusters.
//!
//! It is pure: bytes come in, places come out. The file may be hostile, so every number is checked
//! before it is used.

/// Set where a cluster has one user only; QEMU changes it as users come and go.
pub const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// Longer than any header with a path in it.
pub const HEADER_MAX: usize = 64 << 10;
/// Longer than any table of one snapshot.
pub const ENTRY_MAX: usize = 4 << 10;
/// First-level entries: enough for 32 TiB of disk in clusters of 64 KiB.
const L1_MAX: u32 = 65_536;
/// Incompatible features that move data: an external data file, and second-level entries of twice
/// the size.
const NOT_READ: u64 = 0b1_0100;

type Qcow2Result<T> = Result<T, String>;

/// The fixed part of the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub cluster_bits: u32,
    pub l1_entries: u32,
    pub l1_offset: u64,
    pub snapshots: u32,
    pub snapshots_offset: u64,
    /// Header, extensions and the name of the backing file; fields that QEMU may move are zero.
    pub identity: Vec<u8>,
}

impl Header {
    pub fn parse(bytes: &[u8]) -> Qcow2Result<Self> {
        if bytes.get(..4) != Some(&b"QFI\xfb"[..]) || u32_at(bytes, 4)? != 3 {
            return Err("it is no qcow2 file of version 3".to_owned());
        }
        let cluster_bits = u32_at(bytes, 20)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(format!("clusters of 2^{cluster_bits} bytes"));
        }
        if u64_at(bytes, 72)? & NOT_READ != 0 {
            return Err("it has features that this version doesn't know".to_owned());
        }
        let l1_entries = u32_at(bytes, 36)?;
        if l1_entries > L1_MAX {
            return Err(format!("a table of {l1_entries} entries"));
        }
        Ok(Self {
            cluster_bits,
            l1_entries,
            l1_offset: u64_at(bytes, 40)?,
            snapshots: u32_at(bytes, 60)?,
            snapshots_offset: u64_at(bytes, 64)?,
            identity: identity(bytes)?,
        })
    }

    pub fn cluster_bytes(&self) -> usize {
        1 << self.cluster_bits
    }
}

/// Growing tables move, the snapshots are compared separately, and some features only note how the
/// file was last closed.
fn identity(bytes: &[u8]) -> Qcow2Result<Vec<u8>> {
    let (backing, length) = (usize_of(u64_at(bytes, 8)?)?, u32_at(bytes, 16)? as usize);
    let header = u32_at(bytes, 100)? as usize;
    let end = backing.checked_add(length).ok_or_else(beyond)?.max(header);
    let mut identity = bytes
        .get(..end.min(HEADER_MAX))
        .filter(|part| part.len() == end)
        .ok_or_else(beyond)?
        .to_vec();
    for moving in [36..72, 88..96] {
        identity.get_mut(moving).ok_or_else(beyond)?.fill(0);
    }
    Ok(identity)
}

/// The one snapshot of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub l1_entries: u32,
    pub l1_offset: u64,
    pub name: String,
    /// All of its entry in the table.
    pub bytes: Vec<u8>,
}

impl Snapshot {
    pub fn parse(bytes: &[u8]) -> Qcow2Result<Self> {
        let (id, name) = (usize::from(u16_at(bytes, 12)?), usize::from(u16_at(bytes, 14)?));
        let extra = u32_at(bytes, 36)? as usize;
        let start =
            40_usize.checked_add(extra).and_then(|at| at.checked_add(id)).ok_or_else(beyond)?;
        let text = bytes.get(start..start + name).ok_or_else(beyond)?;
        let l1_entries = u32_at(bytes, 8)?;
        if l1_entries > L1_MAX {
            return Err(format!("a snapshot's table of {l1_entries} entries"));
        }
        Ok(Self {
            l1_entries,
            l1_offset: u64_at(bytes, 0)?,
            name: String::from_utf8_lossy(text).into_owned(),
            bytes: bytes[..start + name].to_vec(),
        })
    }
}

/// A table's entries.
pub fn entries(bytes: &[u8]) -> Vec<u64> {
    bytes
        .chunks_exact(8)
        .map(|entry| entry.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        .collect()
}

/// The place of an entry's cluster; `None` when it has none.
pub fn cluster(entry: u64) -> Qcow2Result<Option<u64>> {
    if entry & COMPRESSED != 0 {
        return Err("it has compressed clusters".to_owned());
    }
    Ok(Some(entry & OFFSET).filter(|offset| *offset != 0))
}

fn beyond() -> String {
    "its header points beyond its end".to_owned()
}

fn usize_of(number: u64) -> Qcow2Result<usize> {
    usize::try_from(number).map_err(|_| beyond())
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Qcow2Result<[u8; N]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or_else(beyond)
}

fn u16_at(bytes: &[u8], at: usize) -> Qcow2Result<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Qcow2Result<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Qcow2Result<u64> {
    array(bytes, at).map(u64::from_be_bytes)
}

#[cfg(test)]
#[path = "qcow2_tests.rs"]
mod tests;
