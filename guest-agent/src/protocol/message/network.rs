//! What a machine is told about its one network interface. Nothing on the wire is asked for any of this. Where
//! others give addresses it is told less: see `lease.rs`.

use std::net::{Ipv4Addr, Ipv6Addr};

use agentvm_types::Mac;
use serde::{Deserialize, Serialize};

/// The machine's place in the network. The host drops what comes from any other MAC or address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNetwork {
    /// Of the machine's interface.
    #[serde(deserialize_with = "agentvm_types::deserialize_unicast")]
    pub mac: Mac,
    /// The machine's one IPv4 address.
    pub address: Ipv4Addr,
    /// Bits of the network's part of the address.
    pub prefix: u8,
    /// Where everything else is reached through.
    pub gateway: Ipv4Addr,
    /// Known from the start, so that a machine need not believe whoever answers first.
    #[serde(deserialize_with = "agentvm_types::deserialize_unicast")]
    pub gateway_mac: Mac,
    /// For `/etc/resolv.conf`; none means that no names can be looked up.
    #[serde(default)]
    pub resolvers: Vec<Ipv4Addr>,
    /// Its place in IPv6 too; without it IPv6 stays off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<GuestIpv6>,
}

/// The machine's place in IPv6, behind the same gateway: [`GuestNetwork::gateway_mac`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestIpv6 {
    /// The machine's one address.
    pub address: Ipv6Addr,
    /// Bits of the network's part of the address.
    pub prefix: u8,
    /// Where everything else is reached through.
    pub gateway: Ipv6Addr,
}
