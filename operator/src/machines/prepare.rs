//! From a golden to a machine that may be lent: created, resumed, rehydrated with its own nonce, paused.
//!
//! No acknowledgement, no place in the pool.

use std::time::Duration;

use agentvm_guest_agent::protocol::{
    AttemptState, Blob, GuestAck, GuestMessage, HostMessage, Nonce, NonceError, Rehydrate, Secret,
};
use agentvm_hypervisor::{HvError, Hypervisor, MachineRecord, MachineSpec};
use jiff::Timestamp;

use super::session::{Session, SessionError, random};

/// How long a fresh clone may take to its first answer; emulated ones need about a second.
const FIRST_ANSWER: Duration = Duration::from_secs(30);
/// How long a rehydrate may take.
const REHYDRATE: Duration = Duration::from_secs(30);

/// Why a machine could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("the machine could not be created")]
    Create(#[source] HvError),
    #[error("the machine could not be resumed or paused")]
    Power(#[source] HvError),
    #[error("no session with its agent")]
    Session(#[source] SessionError),
    #[error("its agent did not confirm that it took over its new identity")]
    Rehydrate(#[source] SessionError),
    #[error("its recorded nonce is none")]
    Nonce(#[source] NonceError),
    #[error("it was found running something that nobody waits for")]
    Used,
}

/// Creates and prepares a machine; it ends up paused.
pub async fn create(hv: &dyn Hypervisor, spec: &MachineSpec) -> Result<(), PrepareError> {
    hv.create(spec).await.map_err(PrepareError::Create)?;
    let name = &spec.record.name;
    hv.resume(name).await.map_err(PrepareError::Power)?;
    let (mut session, _) = Session::open(hv, name, None, FIRST_ANSWER).await.map_err(PrepareError::Session)?;
    rehydrate(&mut session, &spec.record, true).await?;
    drop(session);
    hv.pause(name).await.map_err(PrepareError::Power)
}

/// Gives a machine its identity: nonce, token, name, clock, randomness, workspace.
pub async fn rehydrate(session: &mut Session, record: &MachineRecord, workspace: bool) -> Result<(), PrepareError> {
    let nonce: Nonce = record.nonce.parse().map_err(PrepareError::Nonce)?;
    let message = Rehydrate {
        nonce: nonce.clone(),
        token: Secret::new(&record.token),
        hostname: record.name.to_string(),
        machine_id: machine_id(record),
        entropy: Blob(random::<64>().map_err(PrepareError::Session)?.to_vec()),
        time_unix_nanos: unix_nanos(Timestamp::now()),
        workspace,
    };
    let wanted = GuestMessage::Ack(GuestAck::Rehydrate { nonce });
    session
        .request(HostMessage::Rehydrate(message), REHYDRATE, |message| *message == wanted)
        .await
        .map_err(PrepareError::Rehydrate)
}

/// Is a machine that was found after a restart still one that has executed nothing? It ends up paused.
pub async fn recheck(hv: &dyn Hypervisor, record: &MachineRecord) -> Result<(), PrepareError> {
    let name = &record.name;
    hv.resume(name).await.map_err(PrepareError::Power)?;
    let opened = Session::open(hv, name, Some(&record.token), FIRST_ANSWER).await;
    let (session, hello) = opened.map_err(PrepareError::Session)?;
    let held = hello.attempt.is_some_and(|a| a.state == AttemptState::Held && a.nonce.as_str() == record.nonce);
    if !held || hello.executed {
        return Err(PrepareError::Used);
    }
    drop(session);
    hv.pause(name).await.map_err(PrepareError::Power)
}

/// The machine id is the incarnation's own: two clones of one golden differ.
fn machine_id(record: &MachineRecord) -> String {
    agentvm_core::names::short_hash(&["machine-id", &record.nonce], 32)
}

/// A time as the protocol has it.
pub fn unix_nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}
