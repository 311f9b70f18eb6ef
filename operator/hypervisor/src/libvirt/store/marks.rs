//! The notes about a machine in its own folder, where only root can write: parked, quarantined, its
//! present incarnation.
//!
//! The order makes a crash harmless: a good mark is written after it has become true, and removed
//! before it stops being true.

use agentvm_files::{Durability, WholeFile};
use agentvm_types::Token;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::state_folder::MachineDir;
use crate::files::{io, read_json};
use crate::{HvError, MachineRecord, Mark};

#[derive(Debug, Serialize, Deserialize)]
struct Quarantine {
    until: i64,
    why: String,
}

pub fn set_parked(dir: &MachineDir, evidence: &str) -> Result<(), HvError> {
    replace(&dir.parked(), evidence.as_bytes())
}

/// Absent is fine.
pub fn clear_parked(dir: &MachineDir) -> Result<(), HvError> {
    match fs::remove_file(dir.parked()) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(io("take away", &dir.parked())(e)),
        _ => Ok(()),
    }
}

pub fn set_quarantined(dir: &MachineDir, until: i64, why: &str) -> Result<(), HvError> {
    let note = serde_json::to_vec(&Quarantine { until, why: why.to_owned() })
        .map_err(std::io::Error::other);
    replace(&dir.quarantined(), &note.map_err(io("write", &dir.quarantined()))?)?;
    clear_parked(dir)
}

pub fn is_quarantined(dir: &MachineDir) -> bool {
    dir.quarantined().exists()
}

/// A note that can't be read is still one: the machine isn't to be trusted.
pub fn read(dir: &MachineDir) -> Mark {
    if is_quarantined(dir) {
        let note = read_json::<Quarantine>(&dir.quarantined());
        let Quarantine { until, why } =
            note.unwrap_or(Quarantine { until: 0, why: "its note can't be read".to_owned() });
        return Mark::Quarantined { until, why };
    }
    fs::read_to_string(dir.parked()).map_or(Mark::None, |evidence| Mark::Parked { evidence })
}

/// The record of a machine that was reset. The domain's metadata has the record of its first
/// incarnation.
pub fn record(dir: &MachineDir, made_as: MachineRecord) -> MachineRecord {
    let now: Option<MachineRecord> = read_json(&dir.record());
    now.filter(|now| now.name == made_as.name && now.instance == made_as.instance)
        .unwrap_or(made_as)
}

/// The token stands elsewhere.
pub fn set_record(dir: &MachineDir, record: &MachineRecord) -> Result<(), HvError> {
    let public = MachineRecord { token: Token::default(), ..record.clone() };
    let text = serde_json::to_vec(&public)
        .map_err(std::io::Error::other)
        .map_err(io("write", &dir.record()))?;
    replace(&dir.record(), &text)
}

/// It is whole for readers and for a killed operator, but not for a crash of the host, which ends
/// the machine as well. So nothing waits for a disk.
fn replace(path: &Path, content: &[u8]) -> Result<(), HvError> {
    WholeFile::at(path, Durability::Process).write(content).map_err(io("write", path))
}

#[cfg(test)]
mod tests {
    use agentvm_types::Nonce;

    use super::*;
    use crate::libvirt::xml::metadata::tests::record as sample;

    #[test]
    fn the_worse_mark_wins_and_a_broken_one_is_the_worst() {
        let dir = tempfile::tempdir().unwrap();
        let dir = MachineDir(dir.path().to_owned());
        assert_eq!(read(&dir), Mark::None);
        set_parked(&dir, "evidence").unwrap();
        assert_eq!(read(&dir), Mark::Parked { evidence: "evidence".to_owned() });
        set_quarantined(&dir, 7, "memory").unwrap();
        assert_eq!(read(&dir), Mark::Quarantined { until: 7, why: "memory".to_owned() });
        fs::write(dir.parked(), "late").unwrap();
        fs::write(dir.quarantined(), "{").unwrap();
        assert!(matches!(read(&dir), Mark::Quarantined { until: 0, .. }));
        clear_parked(&dir).unwrap();
        clear_parked(&dir).unwrap();
    }

    #[test]
    fn the_record_after_a_reset_wins_if_it_is_this_machine_s() {
        let dir = tempfile::tempdir().unwrap();
        let dir = MachineDir(dir.path().to_owned());
        let made_as = sample("pool");
        assert_eq!(record(&dir, made_as.clone()), made_as);
        let second = Nonce::from_bytes([2; 16]);
        let now = MachineRecord { nonce: second.clone(), ..made_as.clone() };
        set_record(&dir, &now).unwrap();
        assert!(!fs::read_to_string(dir.record()).unwrap().contains("secret"));
        assert_eq!(record(&dir, made_as.clone()).nonce, second);
        let other = agentvm_core::names::DomainName::from_recorded("other");
        set_record(&dir, &MachineRecord { name: other, ..now }).unwrap();
        assert_eq!(record(&dir, made_as.clone()), made_as);
    }
}
