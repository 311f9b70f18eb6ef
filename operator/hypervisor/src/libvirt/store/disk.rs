//! The disk space that is left for machines, and that each machine takes.

use agentvm_core::names::DomainName;

use super::goldens::allocated;
use super::state_folder::StateFolder;
use crate::files::{free_bytes, io, names_in};
use crate::{DiskUse, HvError};

pub fn used(folder: &StateFolder) -> Result<DiskUse, HvError> {
    let root = folder.root();
    let machine = |name: String| {
        let name = DomainName::from_recorded(name);
        let dir = folder.machine(&name);
        let bytes = allocated(&dir.overlay()) + allocated(&dir.share_image());
        (name, bytes)
    };
    Ok(DiskUse {
        place: root.to_owned(),
        free_bytes: free_bytes(root).map_err(io("look at the disk of", root))?,
        machines: names_in(&folder.machines()).into_iter().map(machine).collect(),
    })
}
