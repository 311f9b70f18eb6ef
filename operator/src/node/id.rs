//! The id of the node: drawn once, and kept in the state folder. The host may get another name, and
//! another host may have its name; the id stays with the machines that are in the folder.

use std::io;
use std::path::{Path, PathBuf};

use agentvm_files::{Durability, WholeFile};
use agentvm_types::NodeId;
use uuid::{Builder, Uuid};

use crate::agent::{SessionError, fresh_nonce};

const FILE: &str = "node-id";

/// The state folder has no id, and can't get one.
#[derive(Debug, thiserror::Error)]
pub enum IdError {
    #[error("no node id could be drawn")]
    Random(#[source] SessionError),
    #[error(
        "{} has no valid node id; put the id back, or remove the file: then this node gets a new \
         id, and attempts of before end as NodeLost",
        .0.display()
    )]
    Damaged(PathBuf),
    #[error("can't use {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        why: io::Error,
    },
}

/// The id of this folder. The caller holds the lock of the folder.
pub fn load_or_draw(folder: &Path) -> Result<NodeId, IdError> {
    if let Some(id) = read(folder)? {
        return Ok(id);
    }
    let nonce = u128::from_str_radix(fresh_nonce().map_err(IdError::Random)?.as_str(), 16)
        .map_err(|_| IdError::Damaged(folder.join(FILE)))?;
    let id = Builder::from_random_bytes(nonce.to_be_bytes()).into_uuid().to_string();
    let path = folder.join(FILE);
    WholeFile::at(&path, Durability::Name)
        .exact_mode(0o600)
        .write(format!("{id}\n").as_bytes())
        .map_err(|why| IdError::File { path, why })?;
    Ok(NodeId::new(id))
}

/// `None` if no id was drawn yet.
pub fn read(folder: &Path) -> Result<Option<NodeId>, IdError> {
    let path = folder.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => match Uuid::parse_str(text.trim()) {
            Ok(id) => Ok(Some(NodeId::new(id.to_string()))),
            Err(_) => Err(IdError::Damaged(path)),
        },
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(IdError::File { path, why }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_id_is_drawn_once_for_a_folder_and_only_we_can_read_it() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = load_or_draw(dir.path()).unwrap();
        assert_eq!(load_or_draw(dir.path()).unwrap(), id);
        assert_ne!(load_or_draw(other.path()).unwrap(), id);
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!((id.as_str().len(), mode & 0o777), (36, 0o600));
    }

    #[test]
    fn a_damaged_id_is_not_replaced_in_silence() {
        let dir = tempfile::tempdir().unwrap();
        for damaged in ["", "node-a", "0123"] {
            std::fs::write(dir.path().join(FILE), damaged).unwrap();
            let said = load_or_draw(dir.path()).unwrap_err().to_string();
            assert!(said.contains("node-id") && said.contains("remove the file"), "{said}");
        }
    }
}
