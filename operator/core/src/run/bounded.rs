//! A status has a largest size, whatever the run did: tails, then lists, are cut until it fits.

use agentvm_crds::{AgentRunStatus, MAX_STATUS_BYTES};

use crate::status::tail;

/// Cuts until the status is as small as it has to be: encoding can make texts several times longer.
pub fn bounded(mut status: AgentRunStatus) -> AgentRunStatus {
    let size = |status: &AgentRunStatus| serde_json::to_vec(status).map_or(0, |text| text.len());
    while size(&status) > MAX_STATUS_BYTES {
        let longest = status.stdout.as_ref().map_or(0, String::len).max(status.stderr.as_ref().map_or(0, String::len));
        halve(&mut status.stdout, &mut status.stdout_truncated, longest);
        halve(&mut status.stderr, &mut status.stderr_truncated, longest);
        if longest <= 1024 {
            let Some(output) = &mut status.output else { break };
            output.files.truncate(output.files.len() / 2);
            output.skipped.truncate(output.skipped.len() / 2);
            if output.files.is_empty() && output.skipped.is_empty() {
                break;
            }
        }
    }
    status
}

fn halve(text: &mut Option<String>, cut: &mut Option<bool>, longest: usize) {
    if let Some(text) = text.as_mut().filter(|t| t.len() == longest && t.len() > 512) {
        *text = tail(text.as_bytes(), text.len() / 2).0;
        *cut = Some(true);
    }
}
