//! A machine on a bridge of the host has an address of that network, or isn't lent.

use std::time::Duration;

use agentvm_guest_agent::protocol::{GuestAck, GuestLease, GuestMessage, HostMessage};
use jiff::Timestamp;

use super::session::{Session, SessionError, unix_nanos};
use crate::links::Station;

/// For one that is prepared. Nobody waits for it but other machines that are to be made.
pub const FIRST: Duration = Duration::from_secs(20);
/// For one that was lent and whose lease ran out while it was parked. A run waits for it.
pub const AGAIN: Duration = Duration::from_secs(10);
/// What the agent gets on top of that.
const SLACK: Duration = Duration::from_secs(10);

/// Returns when the machine has one. Its link is open.
pub async fn lease(session: &mut Session, station: &Station, patience: Duration) -> Result<(), SessionError> {
    let message = GuestLease {
        mac: station.mac,
        resolvers: station.resolvers.clone(),
        time_unix_nanos: unix_nanos(Timestamp::now()),
        patience_millis: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
    };
    let leased = |message: &GuestMessage| match message {
        GuestMessage::Ack(GuestAck::Lease { address }) => Some(*address),
        _ => None,
    };
    let address = session.ask(HostMessage::Lease(message), patience + SLACK, leased).await?;
    tracing::debug!(mac = %station.mac, ?address, "a machine has its address");
    Ok(())
}
