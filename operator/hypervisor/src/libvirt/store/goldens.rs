//! The goldens on disk: finding the whole ones, reading and removing them.

use std::path::Path;

use agentvm_core::golden::DeviceLayout;
use agentvm_core::names::GoldenKey;
use serde::{Deserialize, Serialize};

use super::state_folder::{GoldenDir, HALF, StateFolder};
use crate::files::{names_in, read_json, remove_tree};
use crate::{Golden, HvError, MachineRecord, Resources};

/// The layout of a captured template. The domain of each machine must have the same, because a
/// device state loads only into the devices that it was saved from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CapturedLayout {
    pub resources: Resources,
    pub cmdline: String,
    pub kvm: bool,
    pub vsock: bool,
    /// `recipe.json` calls them `layout`.
    #[serde(default, rename = "layout")]
    pub devices: DeviceLayout,
}

impl CapturedLayout {
    /// Checks that the machine has the devices that the golden was captured with.
    pub fn fits(&self, record: &MachineRecord) -> Result<(), HvError> {
        let detail = match (self.devices, &record.nic) {
            (DeviceLayout::Isolated, Some(_)) => {
                "its golden has no network device, and it is to have one"
            }
            (DeviceLayout::Nic, None) => "its golden has a network device, and it is to have none",
            (DeviceLayout::Isolated, None) | (DeviceLayout::Nic, Some(_)) => return Ok(()),
        };
        Err(HvError::Refused {
            what: format!("make machine {}", record.name),
            detail: detail.to_owned(),
        })
    }
}

/// A golden with the layout that it was captured with.
#[derive(Debug)]
pub struct Whole {
    pub golden: Golden,
    pub captured: CapturedLayout,
    pub dir: GoldenDir,
}

pub fn open(folder: &StateFolder, key: &GoldenKey) -> Result<Whole, HvError> {
    read(folder.golden(key)).ok_or_else(|| HvError::NoSuchGolden(key.clone()))
}

fn read(dir: GoldenDir) -> Option<Whole> {
    let whole = [
        dir.memory(),
        dir.state(),
        dir.snapshot(),
        dir.disk(),
        dir.rootfs(),
        dir.kernel(),
        dir.initrd(),
    ];
    let golden = read_json(&dir.golden())?;
    let captured = read_json(&dir.captured_layout())?;
    whole.iter().all(|file| file.is_file()).then_some(Whole { golden, captured, dir })
}

pub fn list(folder: &StateFolder) -> Vec<Golden> {
    let names = names_in(&folder.goldens()).into_iter().filter(|name| !name.starts_with(HALF));
    names
        .filter_map(|name| Some(read(folder.golden(&GoldenKey::from_recorded(name)))?.golden))
        .collect()
}

pub fn remove(folder: &StateFolder, key: &GoldenKey) -> Result<(), HvError> {
    // It is renamed first, so that a golden is never seen with half of its files.
    let going = folder.going_golden(key).0;
    let from = folder.golden(key).0;
    remove_tree(&going)?;
    if from.exists() {
        std::fs::rename(&from, &going).map_err(crate::files::io("remove", &from))?;
    }
    remove_tree(&going)
}

/// Allocated bytes.
pub fn allocated(file: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(file).map_or(0, |m| m.blocks() * 512)
}
