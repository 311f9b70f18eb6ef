//! The checked offer of a server: any computer on that network may play the server.

use std::net::Ipv4Addr;
use std::time::Duration;

/// A shorter lease would have the machine ask all the time.
const SHORTEST: u32 = 10;
/// A lease without an end, as the protocol has it.
const FOREVER: u32 = u32::MAX;
/// The accepted prefix lengths. Larger networks are whole ranges of the internet; smaller ones have
/// no room for a gateway.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=30;

/// The values of a message, unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    pub address: Option<Ipv4Addr>,
    pub mask: Option<Ipv4Addr>,
    pub gateway: Option<Ipv4Addr>,
    pub resolvers: Vec<Ipv4Addr>,
    pub server: Option<Ipv4Addr>,
    /// Seconds.
    pub lasts: Option<u32>,
    /// Seconds.
    pub renew: Option<u32>,
}

/// An address that this machine can have, with its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub address: Ipv4Addr,
    pub prefix: u8,
    /// `None` in a network without a gateway.
    pub gateway: Option<Ipv4Addr>,
    pub resolvers: Vec<Ipv4Addr>,
    pub server: Ipv4Addr,
    /// `None` means that it lasts for ever.
    pub lasts: Option<Duration>,
    /// When to ask for more of it.
    pub renew: Duration,
}

impl Terms {
    /// The terms of the offer, or the reason to refuse it.
    pub fn of(offered: &Offered) -> Result<Self, &'static str> {
        let address = offered.address.ok_or("it names no address")?;
        let mask = offered.mask.ok_or("it names no subnet mask")?;
        let prefix = prefix(mask).ok_or("its subnet mask is none of /8 to /30")?;
        if !is_station(address) || !is_inside(address, address, prefix) {
            return Err("its address is not one that a machine can have");
        }
        if let Some(gateway) = offered.gateway {
            if !is_station(gateway) || !is_inside(gateway, address, prefix) {
                return Err("its gateway is not a machine of the same subnet");
            }
            if gateway == address {
                return Err("its gateway is the machine itself");
            }
        }
        let server = offered
            .server
            .filter(|server| is_station(*server))
            .ok_or("it does not say whose it is")?;
        let seconds = offered.lasts.ok_or("it does not say how long it lasts")?;
        if seconds < SHORTEST {
            return Err("it lasts less than 10 seconds");
        }
        let half = seconds / 2;
        let renew =
            offered.renew.filter(|renew| (SHORTEST / 2..seconds).contains(renew)).unwrap_or(half);
        Ok(Self {
            address,
            prefix,
            gateway: offered.gateway,
            resolvers: offered
                .resolvers
                .iter()
                .copied()
                .filter(|resolver| is_station(*resolver))
                .collect(),
            server,
            lasts: (seconds != FOREVER).then(|| Duration::from_secs(seconds.into())),
            renew: Duration::from_secs(renew.into()),
        })
    }
}

/// The prefix length of a mask whose ones all come before its zeros.
fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    let ones = u8::try_from(bits.leading_ones()).ok()?;
    (bits.count_ones() == bits.leading_ones() && PREFIXES.contains(&ones)).then_some(ones)
}

/// An address that one machine somewhere may have.
fn is_station(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    let nobody = first == 0 || first >= 240 || address.is_multicast();
    !nobody && !address.is_loopback() && !address.is_link_local()
}

/// In the subnet of `other`, and neither its name nor its broadcast.
fn is_inside(address: Ipv4Addr, other: Ipv4Addr, prefix: u8) -> bool {
    let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    let (address, other) = (u32::from(address), u32::from(other));
    let same = address & !hosts == other & !hosts;
    same && address & hosts != 0 && address & hosts != hosts
}
