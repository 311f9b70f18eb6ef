//! The goldens on disk: which are whole, how they are read and removed.

use std::path::Path;

use agentvm_core::golden::DeviceLayout;
use agentvm_core::names::GoldenKey;
use serde::{Deserialize, Serialize};

use super::layout::{GoldenDir, HALF};
use crate::files::{names_in, read_json, remove_tree};
use crate::libvirt::host::state::Host;
use crate::{Golden, HvError, MachineRecord, Resources};

/// What a clone's domain must have in common with its template's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recipe {
    pub resources: Resources,
    pub cmdline: String,
    pub kvm: bool,
    pub vsock: bool,
    #[serde(default)]
    pub layout: DeviceLayout,
}

impl Recipe {
    /// A state is only loaded into the devices that it was saved from.
    pub fn fits(&self, record: &MachineRecord) -> Result<(), HvError> {
        let detail = match (self.layout, &record.nic) {
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

/// A golden with its recipe.
#[derive(Debug)]
pub struct Whole {
    pub golden: Golden,
    pub recipe: Recipe,
    pub dir: GoldenDir,
}

pub fn open(host: &Host, key: &GoldenKey) -> Result<Whole, HvError> {
    read(host.layout.golden(key)).ok_or_else(|| HvError::NoSuchGolden(key.clone()))
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
    let recipe = read_json(&dir.recipe())?;
    whole.iter().all(|file| file.is_file()).then_some(Whole { golden, recipe, dir })
}

pub fn list(host: &Host) -> Vec<Golden> {
    let names = names_in(&host.layout.goldens()).into_iter().filter(|name| !name.starts_with(HALF));
    names
        .filter_map(|name| Some(read(host.layout.golden(&GoldenKey::from_recorded(name)))?.golden))
        .collect()
}

pub fn remove(host: &Host, key: &GoldenKey) -> Result<(), HvError> {
    // Renamed first, so that nobody sees a golden with half of its files.
    let going = host.layout.going_golden(key).0;
    let from = host.layout.golden(key).0;
    host.forget_golden(key);
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
