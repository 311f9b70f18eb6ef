//! A machine on a bridge of the host has an address of that network, or isn't lent.

use std::time::Duration;

use agentvm_core::names::DomainName;
use agentvm_guest_agent::protocol::{GuestAck, GuestLease, GuestMessage, HostMessage};
use agentvm_hypervisor::{HvError, Hypervisor};
use jiff::Timestamp;

use super::session::{Session, SessionError, unix_nanos};
use crate::network::BridgedNic;

/// For one that is prepared. Nobody waits for it but other machines that are to be made.
pub const FIRST: Duration = Duration::from_secs(20);
/// For one that was lent and whose lease ran out while it was parked. A run waits for it.
pub const AGAIN: Duration = Duration::from_secs(10);
/// What the agent gets on top of that.
const SLACK: Duration = Duration::from_secs(10);

/// Why a machine has no address.
#[derive(Debug, thiserror::Error)]
pub enum Unleased {
    #[error("its agent has none")]
    Guest(#[source] SessionError),
    #[error("it may not have the one that its agent names")]
    Host(#[source] HvError),
}

/// Returns when the machine has one, and its host lets it speak with it and no other. Its link is open.
pub async fn lease(
    hv: &dyn Hypervisor,
    name: &DomainName,
    session: &mut Session,
    station: &BridgedNic,
    patience: Duration,
) -> Result<(), Unleased> {
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
    let address = session.ask(HostMessage::Lease(message), patience + SLACK, leased).await;
    let address = address.map_err(Unleased::Guest)?;
    // The agent's word is only which: the host has heard for itself what the machine was given.
    if let Some(address) = address {
        hv.lease_link(name, address).await.map_err(Unleased::Host)?;
    }
    tracing::debug!(mac = %station.mac, ?address, "a machine has its address");
    Ok(())
}
