//! What a machine is told whose address others give: it is plugged into a bridge of the host, and a DHCP server on that network
//! knows the rest.

use std::net::Ipv4Addr;

use agentvm_types::Mac;
use serde::{Deserialize, Serialize};

/// Has the machine hold an address that a DHCP server gave it. Asked when its link is open, and again before EXECUTE: in a parked
/// machine no clock runs, and the lease does. One that is good is acknowledged without a word on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestLease {
    /// Of the machine's interface.
    #[serde(deserialize_with = "agentvm_types::deserialize_unicast")]
    pub mac: Mac,
    /// For `/etc/resolv.conf`; none means those that the server offers. The host's rules may keep a machine from any others.
    #[serde(default)]
    pub resolvers: Vec<Ipv4Addr>,
    /// The host's wall clock: what a lease's age is counted with. 0 leaves the guest's alone.
    pub time_unix_nanos: u64,
    /// How long a server may take to give one; then it is an error.
    pub patience_millis: u64,
}
