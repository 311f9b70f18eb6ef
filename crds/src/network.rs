//! The network and the limits of machines in a pool's spec, and the network use of a run in its
//! status.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cel::{cidr, ipv4};
use crate::schema::explain_values;

/// The network of a pool's machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.mode) && self.mode == 'Bridge') || has(self.bridge)")
    .message("mode Bridge needs the name of a bridge of the host: set bridge")
    .field_path(".bridge").reason(Reason::FieldValueRequired))]
#[x_kube(validation = Rule::new("!has(self.bridge) || (has(self.mode) && self.mode == 'Bridge')")
    .message("bridge is for mode Bridge: set mode to Bridge, or remove bridge")
    .field_path(".mode"))]
#[x_kube(validation = Rule::new("!has(self.ipFamilies) \
    || (self.ipFamilies.exists_one(f, f == 'IPv4') && \
    self.ipFamilies.filter(f, f == 'IPv6').size() < 2)")
    .message("ipFamilies must be [IPv4] or [IPv4, IPv6]").field_path(".ipFamilies"))]
#[x_kube(validation = Rule::new("!has(self.ipFamilies) || !('IPv6' in self.ipFamilies) \
    || !has(self.mode) || self.mode == 'NatFiltered'")
    .message("IPv6 is only possible with mode NatFiltered: set mode to NatFiltered, or remove IPv6")
    .field_path(".ipFamilies"))]
#[x_kube(validation = Rule::new("!has(self.allow) \
    || (has(self.ipFamilies) && 'IPv6' in self.ipFamilies) || \
    self.allow.all(entry, !has(entry.cidrs) || entry.cidrs.all(net, !net.contains(':')))")
    .message("a network of IPv6 needs ipFamilies: [IPv4, IPv6]").field_path(".allow"))]
pub struct NetworkSpec {
    /// Connection of the machines. If a node cannot provide the mode, the pool starts no machine
    /// there: `Ready` is False with `NetworkUnavailable`. Default: the operator's
    /// `vm.network_mode`, NatFiltered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = explain_values)]
    pub mode: Option<NetworkMode>,
    /// Bridge of the host that machines are connected to. It must exist on the node. Required with
    /// mode `Bridge`, and only allowed there. At most 15 letters, digits, `.`, `_` and `-`.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub bridge: Option<String>,
    /// Versions of IP that machines have: `[IPv4]` or, with mode NatFiltered, `[IPv4, IPv6]`. The
    /// rules filter IPv6 like IPv4. Machines have private addresses in IPv6 too, and resolvers stay
    /// IPv4. If a node cannot route IPv6, the pool starts no machine there: `Ready` is False with
    /// `NetworkUnavailable`. Default: IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2))]
    pub ip_families: Option<Vec<IpFamily>>,
    /// Destinations that machines can reach besides the default (TCP 22, 80, 443 and 9418, and ICMP
    /// echo, on public addresses). At most 64. A change holds at once, for running machines too.
    /// Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub allow: Option<Vec<AllowSpec>>,
    /// IPv4 address of the only DNS server that machines can ask; it may be a private address.
    /// Default: the operator's `network.resolvers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    #[x_kube(validation = ipv4())]
    pub resolver: Option<String>,
}

/// One more set of destinations that machines can reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.ports) || self.protocol != 'ICMP'")
    .message("ICMP has no ports: remove ports, or set protocol to TCP or UDP")
    .field_path(".ports"))]
pub struct AllowSpec {
    /// Protocol of the destinations. Required.
    #[schemars(transform = explain_values)]
    pub protocol: Protocol,
    /// Destination ports, each 1 to 65535; at most 64. Default: every port except 53. Port 53 is
    /// open only if it is listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(range(min = 1, max = 65_535)))]
    pub ports: Option<Vec<i32>>,
    /// Destinations, as networks such as `203.0.113.0/24` or `10.1.2.3/32`, with IPv6 also
    /// `fd12:3456::/48`; at most 64. Only a network that lies within a private range opens
    /// addresses of that range: `0.0.0.0/0` and `::/0` mean every public address. Default: every
    /// public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 43)))]
    #[x_kube(validation = cidr())]
    pub cidrs: Option<Vec<String>>,
}

/// The connection of machines to a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NetworkMode {
    /// DNS, HTTP(S), SSH and git to public addresses, and the destinations of `allow`; IPv6 only if
    /// `ipFamilies` asks for it.
    NatFiltered,
    /// no network device at all.
    Isolated,
    /// a bridge of the host, for users who filter public addresses and ports elsewhere. A DHCP
    /// server on that network, but not on the host itself, gives machines their addresses; a
    /// machine without an address is not lent. A machine can use only its own MAC, reaches private
    /// ranges under the rules of NatFiltered, and never reaches the host itself.
    Bridge,
}

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = explain_values)]
pub enum IpFamily {
    /// every machine with a network has it.
    IPv4,
    /// in addition to IPv4.
    IPv6,
}

/// A protocol that can be allowed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Protocol {
    /// TCP connections.
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP datagrams.
    #[serde(rename = "UDP")]
    Udp,
    /// ICMP echo requests.
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

/// The limits of each machine of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitsSpec {
    /// CPU time of the host, percent of one processor, 1 to 6400; 50 is half of one processor.
    /// Default: one processor for each virtual CPU of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 6400))]
    pub cpu_quota_percent: Option<i32>,
    /// Bytes per second, read from and written to disk together, 65536 to 1099511627776. Default:
    /// the operator's `security.resource_limits.disk_bytes_per_second`, unlimited unless
    /// configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 65_536, max = 1_099_511_627_776_i64))]
    pub disk_bytes_per_second: Option<i64>,
    /// Bytes per second in each direction, 65536 to 4000000000. After a pause, a machine can
    /// transfer somewhat more than the bytes of one second at once. Default: the operator's
    /// `security.resource_limits.network_bytes_per_second`; 32, 64 and 128 MiB with profile Light,
    /// Standard and Intensive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 65_536, max = 4_000_000_000_i64))]
    pub network_bytes_per_second: Option<i64>,
    /// Packets per second in each direction, 100 to 1000000. Default: the operator's
    /// `security.resource_limits.packets_per_second`; 10000, 20000 and 40000 with profile Light,
    /// Standard and Intensive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 1_000_000))]
    pub packets_per_second: Option<i32>,
    /// Connections at the same time, 1 to 65536. A fourth of them (at least 16, at most 256) may
    /// begin within a second. Default: the operator's `security.resource_limits.connections`; 256,
    /// 512 and 1024 with profile Light, Standard and Intensive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub connections: Option<i32>,
    /// Processes and threads of a run at the same time, 16 to 1048576. Default: the operator's
    /// `security.resource_limits.processes`; 2048, 4096 and 8192 with profile Light, Standard and
    /// Intensive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 1_048_576))]
    pub processes: Option<i32>,
}

/// The network use of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunNetwork {
    /// Number of connections that passed.
    pub allowed: i64,
    /// Number of packets that did not pass. A program that tries again counts again.
    pub denied: i64,
    /// Destinations that were denied most often. `count` counts only logged packets, and logging is
    /// limited.
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
    /// `TCP`, `UDP`, `ICMP`, or the name of another protocol.
    #[schemars(length(max = 64))]
    pub protocol: String,
    /// Number of logged packets to this destination.
    pub count: i64,
}
