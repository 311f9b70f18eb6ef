//! The disk space that the output of a finished run takes on its node, as its status tells it.

use agentvm_crds::AgentRun;

/// Bytes of files and streams. A stream whose length the status does not have counts with its
/// limit.
pub fn kept_bytes(run: &AgentRun) -> u64 {
    let Some(status) = &run.status else { return 0 };
    let limit = u64::try_from(run.spec.output.max_bytes).unwrap_or(0);
    let stream = |text: &Option<String>, cut: Option<bool>| match (text, cut) {
        (_, Some(true)) => limit,
        (Some(text), _) => text.len() as u64,
        (None, _) => 0,
    };
    let files = status.output.as_ref().map_or(0, |output| output.total_bytes);
    u64::try_from(files).unwrap_or(0)
        + stream(&status.stdout, status.stdout_truncated)
        + stream(&status.stderr, status.stderr_truncated)
}
