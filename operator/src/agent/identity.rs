//! A machine's identity: the agent is told the record on the host, or made to forget it.

use std::time::Duration;

use agentvm_guest_agent::protocol::{GuestNetwork, Inspection, Rehydrate};
use agentvm_hypervisor::MachineRecord;
use jiff::Timestamp;

use super::{Session, SessionError, fresh_nonce, random::entropy, unix_nanos};

/// The time that an agent may take to become another machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time that an agent may take to make its machine ready for a capture.
const QUIESCE: Duration = Duration::from_mins(1);

/// Gives a machine its identity: nonce, token, hostname, clock, randomness, network, workspace.
pub async fn rehydrate(
    session: &mut Session,
    record: &MachineRecord,
    network: Option<GuestNetwork>,
    workspace: bool,
    now: Timestamp,
) -> Result<(), SessionError> {
    let identity = Rehydrate {
        nonce: record.nonce.clone(),
        token: record.token.clone(),
        hostname: record.name.to_string(),
        machine_id: machine_id(record),
        entropy: entropy()?,
        time_unix_nanos: unix_nanos(now),
        workspace,
        network,
    };
    Ok(session.rehydrate(identity, PATIENCE).await?)
}

/// Takes the identity away for a capture, and leaves a fresh nonce that the golden is known by. The
/// answer is the agent's view of its machine, which the agent of every copy must repeat.
pub async fn quiesce(session: &mut Session) -> Result<Inspection, SessionError> {
    Ok(session.quiesce(fresh_nonce()?, QUIESCE).await?)
}

/// The machine id belongs to the incarnation: two machines of one golden differ.
fn machine_id(record: &MachineRecord) -> String {
    agentvm_core::names::short_hash(&["machine-id", record.nonce.as_str()], 32)
}
