//! Ensures that only one process uses a folder: the data folder of `standalone`, and the state
//! folder of every operator. The kernel holds the lock, and releases it at any death of its holder.
//! The content of the file is for people, and shows whether the last holder ended in order.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use agentvm_files::{Untrusted, make_trusted};
use agentvm_types::NodeId;

use super::id;
use crate::standalone::process::ProcessId;

/// The exclusive use of a folder, until this is dropped.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
    left_by: Option<i32>,
}

/// The folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "the folder {} is in use by process {}{}; end that process, or name another folder with \
         --data-dir (standalone) or --state-dir (operator)",
        folder.display(),
        holder.map_or("(unknown)".into(), |pid| pid.to_string()),
        node.as_ref().map(|node| format!(" (node id {node})")).unwrap_or_default()
    )]
    InUse { folder: PathBuf, holder: Option<i32>, node: Option<NodeId> },
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    #[error("cannot write {}; name a folder that this user may write", path.display())]
    File {
        path: PathBuf,
        #[source]
        why: io::Error,
    },
}

impl FolderLock {
    /// Locks the folder, and makes it if it is missing. QEMU's user can enter it.
    pub fn acquire(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join("lock");
        let failed = |why| LockError::File { path: path.clone(), why };
        make_trusted(folder, 0o711)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::InUse {
                    folder: folder.to_owned(),
                    holder: holder(&mut file),
                    node: id::read(folder).ok().flatten(),
                });
            }
            Err(TryLockError::Error(why)) => return Err(failed(why)),
        }
        let left_by = holder(&mut file);
        sign(&mut file).map_err(failed)?;
        Ok(Self { file, left_by })
    }

    /// The process that used the folder before and died without releasing it. Its work is
    /// unfinished.
    pub fn left_by(&self) -> Option<i32> {
        self.left_by
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Only the message of the next holder depends on it.
        let _ = self.file.set_len(0);
        // Closing the file is not enough: a child that was forked at this moment and has not called
        // exec yet would keep the lock.
        let _ = self.file.unlock();
    }
}

fn holder(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(1024).read_to_string(&mut text).ok()?;
    serde_json::from_str::<ProcessId>(&text).ok().map(|id| id.pid)
}

fn sign(file: &mut File) -> io::Result<()> {
    let id = serde_json::to_vec(&ProcessId::current()?)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&id)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_with_the_users_pid_and_free_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("made/by/us");
        let first = FolderLock::acquire(&data_dir).unwrap();
        let node = id::load_or_draw(&data_dir).unwrap();
        let said = FolderLock::acquire(&data_dir).unwrap_err().to_string();
        let pid = std::process::id().to_string();
        for word in [data_dir.to_str().unwrap(), &pid, node.as_str(), "--data-dir", "--state-dir"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        drop(first);
        assert_eq!(FolderLock::acquire(&data_dir).unwrap().left_by(), None);
    }

    #[test]
    fn a_folder_that_a_dead_process_left_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        // A process takes the lock like we do, writes its id, and is killed.
        let mut child = std::process::Command::new("flock")
            .args(["--no-fork", path.to_str().unwrap(), "sh", "-c"])
            .arg(format!(
                "echo '{{\"pid\":'$$',\"startTicks\":1}}' >{}; echo; exec sleep 600",
                path.display()
            ))
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        match FolderLock::acquire(dir.path()) {
            Err(LockError::InUse { holder, .. }) => assert_eq!(holder, Some(pid)),
            other => panic!("{other:?}"),
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(FolderLock::acquire(dir.path()).unwrap().left_by(), Some(pid));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = FolderLock::acquire(&file.join("below")).unwrap_err();
        assert!(error.to_string().contains("/file is not a folder"), "{error}");
    }
}
