//! The reachable destinations of machines, in numbers and ranges: a pool's `network` and `limits`
//! with every default.

use std::net::Ipv4Addr;

use agentvm_crds::Protocol;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// TCP ports of public addresses that every machine reaches: SSH, HTTP, HTTPS, git.
pub const DEFAULT_PORTS: [u16; 4] = [22, 80, 443, 9418];

/// The reachable destinations of the machines of one pool, and their limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// The generation of the spec that it was made from.
    pub generation: i64,
    /// Whether they may use IPv6 too, as IPv4.
    #[serde(default)]
    pub ipv6: bool,
    /// Destinations besides those that every machine reaches.
    pub allow: Vec<Allow>,
    /// The only addresses that are asked for names.
    pub resolvers: Vec<Ipv4Addr>,
    pub limits: LinkLimits,
}

/// One thing more that machines may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allow {
    pub protocol: Protocol,
    /// Empty: every port. Always empty for ICMP.
    pub ports: Vec<PortRange>,
    /// Empty: every public address.
    pub cidrs: Vec<IpNet>,
}

/// From `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

/// The network limits of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkLimits {
    /// In each direction; `None` means as much as the host gives.
    pub bytes_per_second: Option<u64>,
    /// In each direction.
    pub packets_per_second: u32,
    /// At the same time.
    pub connections: u32,
}

/// The networks and ports of one policy, together: each is an element in the kernel.
pub const POOL_ELEMENTS: usize = 512;
/// The networks and ports of all policies on a node: 64 of the largest ones.
pub const NODE_ELEMENTS: usize = 64 * POOL_ELEMENTS;

impl Policy {
    /// The networks and ports that it names.
    pub fn elements(&self) -> usize {
        self.allow.iter().map(|allow| allow.ports.len() + allow.cidrs.len()).sum()
    }
}

/// Whether a node has room for a policy beside the elements of the others. The error says why not.
pub fn check_node_elements(others: usize, policy: &Policy) -> Result<(), String> {
    let asked = policy.elements();
    if asked == 0 || others + asked <= NODE_ELEMENTS {
        return Ok(());
    }
    Err(format!(
        "spec.network.allow: it has {asked} networks and ports, and the pools with machines on \
            this node have {others} of at most {NODE_ELEMENTS}: name fewer and larger \
            networks, or wait until another pool has no machine"
    ))
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}
