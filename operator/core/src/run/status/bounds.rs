//! The largest size of a run's status, whatever the run did. First the ends of its streams are cut,
//! then its lists, until the status fits.

use agentvm_crds::{
    AgentRunStatus, DeniedFlow, MAX_STATUS_BYTES, ResetCheck, ResetStatus, RunNetwork,
};

use crate::status::{plain, tail};

/// The bytes of each stream's end that a status carries.
pub const MAX_TAIL: usize = 16 * 1024;
/// The number of files that a status lists.
pub const MAX_FILES: usize = 200;
/// The number of skipped entries that a status lists.
pub const MAX_SKIPPED: usize = 20;
/// The number of attempts that a status lists: the first and the latest ones.
pub const MAX_ATTEMPTS: usize = 20;
/// The number of checks that a status lists; there are five.
const MAX_CHECKS: usize = 16;
/// Bytes of the result of one part. A guest may have written some of it, so it is never printed
/// raw.
const MAX_RESULT: usize = 256;
/// Bytes of a name.
const MAX_NAME: usize = 64;
/// The number of destinations that a status lists.
const MAX_DENIED: usize = 16;

/// The reset of a status, however much was noted.
pub fn bounded_reset(reset: &ResetStatus) -> ResetStatus {
    let check = |check: &ResetCheck| ResetCheck {
        name: plain(&check.name, MAX_NAME),
        result: plain(&check.result, MAX_RESULT),
    };
    ResetStatus {
        tier: plain(&reset.tier, MAX_NAME),
        millis: reset.millis.max(0),
        checks: reset.checks.iter().take(MAX_CHECKS).map(check).collect(),
    }
}

/// The network of a status, however much was noted.
pub fn bounded_network(network: &RunNetwork) -> RunNetwork {
    let denied = |flow: &DeniedFlow| DeniedFlow {
        destination: plain(&flow.destination, MAX_NAME),
        port: flow.port,
        protocol: plain(&flow.protocol, MAX_NAME),
        count: flow.count,
    };
    RunNetwork {
        top_denied: network.top_denied.iter().take(MAX_DENIED).map(denied).collect(),
        ..*network
    }
}

/// Cuts until the status is as small as it has to be: encoding can make texts several times longer.
pub fn bounded(mut status: AgentRunStatus) -> AgentRunStatus {
    let size = |status: &AgentRunStatus| serde_json::to_vec(status).map_or(0, |text| text.len());
    while size(&status) > MAX_STATUS_BYTES {
        let longest = status
            .stdout
            .as_ref()
            .map_or(0, String::len)
            .max(status.stderr.as_ref().map_or(0, String::len));
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
