//! What a machine is told about its one network interface. Nothing on the wire is asked for any of this. Where
//! others give addresses it is told less: see `lease.rs`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The machine's place in the network. The host drops what comes from any other MAC or address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNetwork {
    /// Of the machine's interface.
    pub mac: Mac,
    /// The machine's one IPv4 address.
    pub address: Ipv4Addr,
    /// Bits of the network's part of the address.
    pub prefix: u8,
    /// Where everything else is reached through.
    pub gateway: Ipv4Addr,
    /// Known from the start, so that a machine need not believe whoever answers first.
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

/// An Ethernet address of one station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

/// A text that is no MAC of a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a MAC address is six pairs of hex digits with colons between, the first pair an even number, not all zero"
)]
pub struct MacError;

impl Mac {
    /// The address of these bytes, unless they name a group of stations or nobody.
    pub fn new(bytes: [u8; 6]) -> Result<Self, MacError> {
        let [first, ..] = bytes;
        if first & 1 == 1 || bytes == [0; 6] { Err(MacError) } else { Ok(Self(bytes)) }
    }

    /// The six bytes, as they are sent.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl std::str::FromStr for Mac {
    type Err = MacError;
    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs
                .next()
                .filter(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or(MacError)?;
        }
        if pairs.next().is_some() { Err(MacError) } else { Self::new(bytes) }
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;
    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}
