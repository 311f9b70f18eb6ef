//! The node's own record of a run's end: `RUNS/UID/finished.json`, its last status.
//!
//! The API server has the status. But a user may clear it, or a backup may bring an older object
//! back under the same UID. Such a run looks as if it had never been executed. The record shows
//! that it was, and its status is written again. The record goes with the folder of the run.

use std::{io, path::Path};

use agentvm_core::run::is_finished;
use agentvm_crds::AgentRunStatus;
use agentvm_files::{Durability, WholeFile};
use agentvm_types::RunUid;

const NAME: &str = "finished.json";

/// Makes the folder of a run. It is there before the claim, so that a disk that fails costs no
/// machine.
pub async fn make_folder(runs: &Path, run: &RunUid) -> io::Result<()> {
    let folder = runs.join(run.as_str());
    blocking(move || std::fs::create_dir_all(folder)).await
}

/// Notes the end of a run before the API server hears of it.
pub async fn note(runs: &Path, run: &RunUid, status: &AgentRunStatus) -> io::Result<()> {
    let folder = runs.join(run.as_str());
    let content = serde_json::to_vec(status)?;
    blocking(move || {
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(NAME);
        WholeFile::at(&path, Durability::Process).exact_mode(0o600).write(&content)
    })
    .await
}

/// The noted end of a run; `None` where it has not ended on this node.
pub async fn noted(runs: &Path, run: &RunUid) -> io::Result<Option<AgentRunStatus>> {
    let path = runs.join(run.as_str()).join(NAME);
    let read = blocking(move || match std::fs::read(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    });
    let Some(content) = read.await? else { return Ok(None) };
    let status: AgentRunStatus = serde_json::from_slice(&content)?;
    if is_finished(Some(&status)) {
        Ok(Some(status))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it is no end of a run"))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use agentvm_core::{run::finished, status::Decided};
    use agentvm_crds::SucceededReason;
    use jiff::Timestamp;

    use super::*;

    #[tokio::test]
    async fn an_end_is_noted_and_found_again_and_nothing_else_counts_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let (runs, run) = (folder.path(), RunUid::new("uid"));
        assert_eq!(noted(runs, &run).await.unwrap(), None);
        let decided = Decided { generation: Some(1), now: Timestamp::UNIX_EPOCH };
        let reason = SucceededReason::Completed;
        let end = finished(&AgentRunStatus::default(), reason, "done", decided);
        note(runs, &run, &end).await.unwrap();
        assert_eq!(noted(runs, &run).await.unwrap(), Some(end));
        for damaged in [&b"{}"[..], b"", b"{\"conditions\""] {
            std::fs::write(runs.join("uid").join(NAME), damaged).unwrap();
            assert!(noted(runs, &run).await.is_err(), "a damaged record is no permission to run");
        }
    }
}
