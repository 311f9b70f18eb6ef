//! The order to a machine on a bridge of the host: a DHCP server on that network gives its address.

use std::net::Ipv4Addr;

use agentvm_types::Mac;
use serde::{Deserialize, Serialize};

/// Makes the machine hold an address that a DHCP server gave it. The host sends it when the link is
/// open, and again before EXECUTE: no clock runs in a parked machine, but its lease does. The agent
/// acknowledges a valid lease without a packet on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestLease {
    /// The MAC of the machine's interface.
    #[serde(deserialize_with = "agentvm_types::deserialize_unicast")]
    pub mac: Mac,
    /// The name servers for `/etc/resolv.conf`; without any, the offered ones. The host's rules may
    /// keep a machine from all others.
    #[serde(default)]
    pub resolvers: Vec<Ipv4Addr>,
    /// The host's wall clock, for the age of the lease. 0 leaves the guest's clock alone.
    pub time_unix_nanos: u64,
    /// The time that a server may take. After it, the request fails.
    pub patience_millis: u64,
}
