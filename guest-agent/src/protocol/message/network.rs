//! The order for the machine's one network interface. Nothing on the wire is asked for any of this.
//! On a foreign network the order is shorter: see `lease.rs`.

use std::net::{Ipv4Addr, Ipv6Addr};

use agentvm_types::Mac;
use serde::{Deserialize, Serialize};

/// The machine's place in the network. The host drops packets from any other MAC or address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNetwork {
    /// The MAC of the machine's interface.
    #[serde(deserialize_with = "agentvm_types::deserialize_unicast")]
    pub mac: Mac,
    /// The machine's one IPv4 address.
    pub address: Ipv4Addr,
    /// Bits of the network's part of the address.
    pub prefix: u8,
    /// Where everything else is reached through.
    pub gateway: Ipv4Addr,
    /// The gateway's MAC. It is known from the start, so the machine need not believe the first
    /// answer.
    #[serde(deserialize_with = "agentvm_types::deserialize_unicast")]
    pub gateway_mac: Mac,
    /// The name servers for `/etc/resolv.conf`; without any, no names can be looked up.
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
