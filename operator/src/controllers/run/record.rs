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

use crate::node::marker::Marker;

const NAME: &str = "finished.json";

/// The folder of a run on this node, and the mark that it has.
#[derive(Clone, Copy, Debug)]
pub struct Folder<'a> {
    pub runs: &'a Path,
    pub run: &'a RunUid,
    /// NAMESPACE/NAME of the run.
    pub name: &'a str,
    pub marker: &'a Marker,
}

impl Folder<'_> {
    /// Makes the folder with its mark. It is there before the claim, so that a disk that fails
    /// costs no machine.
    pub async fn make(self) -> io::Result<()> {
        let (marker, name) = (self.marker.clone(), self.name.to_owned());
        let folder = self.runs.join(self.run.as_str());
        blocking(move || marker.mark_run(&folder, &name)).await
    }
}

/// Notes the end of a run before the API server hears of it.
pub async fn note(folder: Folder<'_>, status: &AgentRunStatus) -> io::Result<()> {
    let content = serde_json::to_vec(status)?;
    folder.make().await?;
    let folder = folder.runs.join(folder.run.as_str());
    blocking(move || {
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
    use agentvm_types::NodeId;
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
        let marker = Marker { cluster: "c".into(), node: NodeId::new("n") };
        let of_run = Folder { runs, run: &run, name: "default/run", marker: &marker };
        note(of_run, &end).await.unwrap();
        assert_eq!(noted(runs, &run).await.unwrap(), Some(end));
        for damaged in [&b"{}"[..], b"", b"{\"conditions\""] {
            std::fs::write(runs.join("uid").join(NAME), damaged).unwrap();
            assert!(noted(runs, &run).await.is_err(), "a damaged record is no permission to run");
        }
    }
}
