//! What machines can reach and how much they may take, as a pool says it, and what a run tried, as its status says it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{cidr, ipv4};
use crate::schema::explain_values;

/// What the machines of a pool can reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.mode) && self.mode == 'Bridge') || has(self.bridge)")
    .message("mode Bridge needs the name of a bridge of the host: set bridge")
    .field_path(".bridge").reason(Reason::FieldValueRequired))]
#[x_kube(validation = Rule::new("!has(self.bridge) || (has(self.mode) && self.mode == 'Bridge')")
    .message("bridge is for mode Bridge: set mode to Bridge, or remove bridge").field_path(".mode"))]
#[x_kube(validation = Rule::new("!has(self.ipFamilies) || (self.ipFamilies.exists_one(f, f == 'IPv4') && \
    self.ipFamilies.filter(f, f == 'IPv6').size() < 2)")
    .message("ipFamilies must be [IPv4] or [IPv4, IPv6]").field_path(".ipFamilies"))]
#[x_kube(validation = Rule::new("!has(self.ipFamilies) || !('IPv6' in self.ipFamilies) || !has(self.mode) || self.mode == 'NatFiltered'")
    .message("IPv6 is only possible with mode NatFiltered: set mode to NatFiltered, or remove IPv6").field_path(".ipFamilies"))]
#[x_kube(validation = Rule::new("!has(self.allow) || (has(self.ipFamilies) && 'IPv6' in self.ipFamilies) || \
    self.allow.all(entry, !has(entry.cidrs) || entry.cidrs.all(net, !net.contains(':')))")
    .message("a network of IPv6 needs ipFamilies: [IPv4, IPv6]").field_path(".allow"))]
pub struct NetworkSpec {
    /// How machines are connected. A mode that a node can't carry out starts no machine there: `Ready` is False with
    /// `NetworkUnavailable`. Default: the operator's `vm.network_mode`, NatFiltered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = explain_values)]
    pub mode: Option<NetworkMode>,
    /// The bridge of the host that machines are plugged into; it must exist on the node. Required with mode `Bridge`, and
    /// only allowed there. At most 15 letters, digits, `.`, `_` and `-`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub bridge: Option<String>,
    /// The versions of IP that machines have: `[IPv4]` or, with mode NatFiltered, `[IPv4, IPv6]`. IPv6 is filtered as IPv4 is; machines
    /// have private addresses there too, and resolvers stay IPv4. A node that can't route IPv6 starts no machine: `Ready` is False with
    /// `NetworkUnavailable`. Default: IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2))]
    pub ip_families: Option<Vec<IpFamily>>,
    /// What machines can reach besides the default of TCP 22, 80, 443 and 9418 and ICMP echo on public addresses. At most 64.
    /// A change holds at once for machines that run. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub allow: Option<Vec<AllowSpec>>,
    /// IPv4 address of the only DNS server that machines can ask; it may be a private one. Default: the operator's
    /// `network.resolvers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    #[x_kube(validation = ipv4())]
    pub resolver: Option<String>,
}

/// One thing more that machines can reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.ports) || self.protocol != 'ICMP'")
    .message("ICMP has no ports: remove ports, or set protocol to TCP or UDP").field_path(".ports"))]
pub struct AllowSpec {
    /// The protocol. Required.
    #[schemars(transform = explain_values)]
    pub protocol: Protocol,
    /// Destination ports, each 1 to 65535; at most 64. Default: every port, but 53 only where it is listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(range(min = 1, max = 65_535)))]
    pub ports: Option<Vec<i32>>,
    /// Destinations, as networks such as `203.0.113.0/24` or `10.1.2.3/32`, with IPv6 also `fd12:3456::/48`; at most 64. A private range
    /// is only reached by a network that lies within it: `0.0.0.0/0` and `::/0` are every public address. Default: every public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 43)))]
    #[x_kube(validation = cidr())]
    pub cidrs: Option<Vec<String>>,
}

/// How machines are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NetworkMode {
    /// DNS, HTTP(S), SSH and git to public addresses, and what `allow` adds; IPv6 only where `ipFamilies` asks for it.
    NatFiltered,
    /// no network device at all.
    Isolated,
    /// a bridge of the host, for those who filter public addresses and ports elsewhere. A DHCP server on that network, not on
    /// the host itself, gives machines their addresses; one without is not lent. A machine has its own MAC and no other,
    /// reaches private ranges as with NatFiltered, and never the host itself.
    Bridge,
}

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = explain_values)]
pub enum IpFamily {
    /// what every machine with a network has.
    IPv4,
    /// beside it.
    IPv6,
}

/// A protocol that can be allowed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Protocol {
    /// connections.
    #[serde(rename = "TCP")]
    Tcp,
    /// datagrams.
    #[serde(rename = "UDP")]
    Udp,
    /// echo requests.
    #[serde(rename = "ICMP")]
    Icmp,
}

impl Protocol {
    /// The word in specs and statuses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmp => "ICMP",
        }
    }
}

/// How much each machine of a pool may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitsSpec {
    /// Time of the host's processors, percent of one processor, 1 to 6400: 50 is half of one. Default: as much as the machine
    /// has virtual CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 6400))]
    pub cpu_quota_percent: Option<i32>,
    /// Read from and written to disk, together, bytes per second, 65536 to 1099511627776. Default: the operator's
    /// `security.resource_limits.disk_bytes_per_second`, unlimited unless configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 65_536, max = 1_099_511_627_776_i64))]
    pub disk_bytes_per_second: Option<i64>,
    /// Bytes per second in each direction, 65536 to 4000000000; after a pause somewhat more than a second's worth goes at once. Default: the operator's
    /// `security.resource_limits.network_bytes_per_second`; 32, 64 and 128 MiB with profile Light, Standard and Intensive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 65_536, max = 4_000_000_000_i64))]
    pub network_bytes_per_second: Option<i64>,
    /// Packets per second in each direction, 100 to 1000000. Default: the operator's
    /// `security.resource_limits.packets_per_second`; 10000, 20000 and 40000 with profile Light, Standard and Intensive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 1_000_000))]
    pub packets_per_second: Option<i32>,
    /// Connections at the same time, 1 to 65536; a fourth of them, 16 to 256, may begin in a second. Default: the operator's
    /// `security.resource_limits.connections`; 256, 512 and 1024 with profile Light, Standard and Intensive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub connections: Option<i32>,
    /// Processes and threads of a run at the same time, 16 to 1048576. Default: the operator's
    /// `security.resource_limits.processes`; 2048, 4096 and 8192 with profile Light, Standard and Intensive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 1_048_576))]
    pub processes: Option<i32>,
}

/// What a run did with its network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunNetwork {
    /// Connections that were let through.
    pub allowed: i64,
    /// Packets that were not: a program that tries again counts again.
    pub denied: i64,
    /// What was denied most often; `count` is of what was logged, which is bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub top_denied: Vec<DeniedFlow>,
}

/// A destination that was denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeniedFlow {
    /// Address of the destination.
    #[schemars(length(max = 64))]
    pub destination: String,
    /// Port of the destination; absent where the protocol has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// `TCP`, `UDP`, `ICMP`, or what else it was.
    #[schemars(length(max = 64))]
    pub protocol: String,
    /// How often.
    pub count: i64,
}
