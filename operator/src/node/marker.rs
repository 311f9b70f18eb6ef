//! Marks the folders that this operator may empty: with its cluster and its node. A folder without
//! our mark is not ours to remove, whatever it is called.

use std::io;
use std::path::{Path, PathBuf};

use agentvm_files::{Durability, WholeFile};
use agentvm_types::NodeId;
use serde::{Deserialize, Serialize};

const FILE: &str = ".agentvm.json";

/// The owner of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The UID of the cluster's namespace `kube-system`, which lives as long as the cluster.
    pub cluster: String,
    pub node: NodeId,
}

/// A run's folder, whose object may be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunMarker {
    #[serde(flatten)]
    pub owner: Marker,
    /// NAMESPACE/NAME of the run.
    pub run: String,
}

/// The folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    #[error(
        "{} has the data of another cluster (its kube-system has UID {found}; of this cluster it \
         is {ours}). To serve this cluster, name another folder ({setting}), or remove this one",
        folder.display()
    )]
    OtherCluster { folder: PathBuf, found: String, ours: String, setting: &'static str },
    #[error("can't mark {} as ours", folder.display())]
    File {
        folder: PathBuf,
        #[source]
        why: io::Error,
    },
}

impl Marker {
    /// Marks a folder of this cluster, or refuses one of another cluster. `setting` names the
    /// setting that chooses the folder.
    pub fn claim(&self, folder: &Path, setting: &'static str) -> Result<(), MarkerError> {
        match read::<Self>(folder) {
            Some(found) if found.cluster != self.cluster => Err(MarkerError::OtherCluster {
                folder: folder.to_owned(),
                found: found.cluster,
                ours: self.cluster.clone(),
                setting,
            }),
            Some(found) if found == *self => Ok(()),
            _ => write(folder, self)
                .map_err(|why| MarkerError::File { folder: folder.to_owned(), why }),
        }
    }

    /// Makes the folder of a run with its mark.
    pub fn mark_run(&self, folder: &Path, run: &str) -> io::Result<()> {
        let marker = RunMarker { owner: self.clone(), run: run.to_owned() };
        std::fs::create_dir_all(folder)?;
        if read::<RunMarker>(folder).as_ref() == Some(&marker) {
            return Ok(());
        }
        write(folder, &marker).inspect_err(|_| {
            // Without a mark it would stay for ever. Only an empty folder goes.
            let _ = std::fs::remove_dir(folder);
        })
    }

    /// The folder of a run, if it has our mark.
    pub fn run_folder(&self, path: PathBuf) -> Option<RunFolder> {
        let marker: RunMarker = read(&path)?;
        let made = path.join(FILE).metadata().and_then(|meta| meta.modified()).ok()?;
        (marker.owner == *self).then_some(RunFolder { path, run: marker.run, made })
    }
}

/// A folder of a run, with our mark.
#[derive(Clone, Debug)]
pub struct RunFolder {
    pub path: PathBuf,
    /// NAMESPACE/NAME of the run.
    pub run: String,
    /// By the clock of the file system.
    pub made: std::time::SystemTime,
}

fn read<T: serde::de::DeserializeOwned>(folder: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(folder.join(FILE)).ok()?).ok()
}

fn write(folder: &Path, marker: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(marker)?;
    WholeFile::at(&folder.join(FILE), Durability::Content).exact_mode(0o600).write(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(cluster: &str, node: &str) -> Marker {
        Marker { cluster: cluster.into(), node: NodeId::new(node) }
    }

    #[test]
    fn a_folder_of_another_cluster_is_refused_and_one_of_this_is_ours_under_any_node_id() {
        let dir = tempfile::tempdir().unwrap();
        marker("a", "1").claim(dir.path(), "--state-dir").unwrap();
        marker("a", "1").claim(dir.path(), "--state-dir").unwrap();
        marker("a", "2").claim(dir.path(), "--state-dir").unwrap();
        let said = marker("b", "2").claim(dir.path(), "--state-dir").unwrap_err().to_string();
        for word in [dir.path().to_str().unwrap(), "UID a;", "it is b", "--state-dir"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }

    #[test]
    fn only_a_folder_with_our_mark_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        let ours = marker("a", "1");
        ours.mark_run(&dir.path().join("mine"), "default/run").unwrap();
        marker("b", "1").mark_run(&dir.path().join("cluster"), "default/run").unwrap();
        marker("a", "2").mark_run(&dir.path().join("node"), "default/run").unwrap();
        std::fs::create_dir(dir.path().join("before")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let run = |name| Some(ours.run_folder(dir.path().join(name))?.run);
        assert_eq!(run("mine").as_deref(), Some("default/run"));
        for foreign in ["cluster", "node", "before", "file", "missing"] {
            assert_eq!(run(foreign), None, "{foreign}");
        }
    }
}
