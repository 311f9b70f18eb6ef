//! The address of a machine on a bridge of the host. A DHCP server of that network gives it, and
//! without one the machine is not lent.

use std::time::Duration;

use agentvm_core::names::DomainName;
use agentvm_guest_agent::{client::ClientError, protocol::GuestLease};
use agentvm_hypervisor::{HvError, Hypervisor};
use jiff::Timestamp;

use super::{Session, millis, unix_nanos};
use crate::network::BridgedNic;

/// The agent gets this on top of the time that the DHCP server has.
const SLACK: Duration = Duration::from_secs(10);

/// Why a machine has no address.
#[derive(Debug, thiserror::Error)]
pub enum Unleased {
    #[error("its agent has none")]
    Guest(#[source] ClientError),
    #[error("it may not have the one that its agent names")]
    Host(#[source] HvError),
}

/// The request for an address. A DHCP server has `patience` to give it.
pub fn lease_message(nic: &BridgedNic, patience: Duration, now: Timestamp) -> GuestLease {
    GuestLease {
        mac: nic.mac,
        resolvers: nic.resolvers.clone(),
        time_unix_nanos: unix_nanos(now),
        patience_millis: millis(patience),
    }
}

/// Returns when the machine has an address, and its host lets it speak with that one only. The
/// machine's link is open before.
pub async fn lease(
    hv: &dyn Hypervisor,
    name: &DomainName,
    session: &mut Session,
    lease: GuestLease,
) -> Result<(), Unleased> {
    let (mac, patience) = (lease.mac, Duration::from_millis(lease.patience_millis));
    let address = session.lease(lease, patience.saturating_add(SLACK)).await;
    let address = address.map_err(Unleased::Guest)?;
    // The agent only names the address. The host itself has heard which one the machine was given.
    if let Some(address) = address {
        hv.lease_link(name, address).await.map_err(Unleased::Host)?;
    }
    tracing::debug!(%mac, ?address, "a machine has its address");
    Ok(())
}
