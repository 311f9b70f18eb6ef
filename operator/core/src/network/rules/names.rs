//! Names of one installation's table, chains and sets, and its NFLOG group. They are derived, so
//! that several installations share a host. No name is a word of nft's language.

use ipnet::Ipv6Net;

use super::ir::Version;
use crate::names::{InstanceId, short_hash};
use crate::network::ula;
use agentvm_types::OwnerUid;

/// The nftables table of one installation, in the families `bridge` and `inet`, and the other names
/// that are derived from the installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    name: String,
    tap_prefix: String,
    log_group: u16,
    ula: Ipv6Net,
}

impl Table {
    pub fn of(instance: &InstanceId) -> Self {
        let id = instance.as_str();
        let group = u16::from_str_radix(&short_hash(&["nflog", id], 4), 16).unwrap_or_default();
        Self {
            name: format!("agentvm_{id}"),
            tap_prefix: format!("avm{}-", id.chars().take(4).collect::<String>()),
            // Small numbers are what people give by hand.
            log_group: 1024 + group % (u16::MAX - 1024),
            ula: ula(instance),
        }
    }

    /// Name of the table in both families.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The beginning of the names of this installation's taps, and of no others.
    pub fn tap_prefix(&self) -> String {
        self.tap_prefix.clone()
    }

    /// Where machines that have IPv6 have their addresses.
    pub fn ula(&self) -> Ipv6Net {
        self.ula
    }

    /// The NFLOG group that verdicts are told to.
    pub fn log_group(&self) -> u16 {
        self.log_group
    }
}

pub(super) const FAMILY_BRIDGE: &str = "bridge";
pub(super) const FAMILY_INET: &str = "inet";

/// Tap, MAC and address of each machine on our own bridge.
pub(super) const PINNED: [&str; 2] = ["pinned", "pinned6"];
/// Tap and MAC of each machine on a bridge of the host.
pub(super) const STATIONS: &str = "stations";
/// Taps on a bridge of the host.
pub(super) const PLUGGED: &str = "plugged";
/// The taps with the addresses that a server gave them, once the agent has the address: the only
/// source that the machine may use.
pub(super) const LEASED: &str = "leased";
/// The taps with their MACs, to recognise servers' answers; and, for a minute, the addresses that
/// servers gave.
pub(super) const CALLERS: &str = "callers";
pub(super) const HEARD: &str = "heard";
/// The chains for a tap's frames on their way out of the machine, and into it.
pub(super) const LEAVING: &str = "leaving";
pub(super) const ARRIVING: &str = "arriving";
/// The map from a tap on a bridge of the host to its chain. The text stays, because tables of
/// earlier operators have it.
pub(super) const BRIDGED: &str = "abroad";
/// Frames that were dropped, by tap.
pub(super) const REFUSED: &str = "refused";
/// Addresses of machines whose link is open.
pub(super) const LINKED: [&str; 2] = ["linked", "linked6"];
/// The chain of a machine's destinations, by its address.
pub(super) const POOLS: [&str; 2] = ["pools", "pools6"];
/// Permitted connections and denied packets, by MAC: both versions of IP are one machine.
pub(super) const ALLOWED: &str = "allowed";
pub(super) const DENIED: &str = "denied";

/// Chains that say no, count and tell.
pub(super) const REFUSE: &str = "refuse";
pub(super) const LIMITED: &str = "over_limit";

/// The beginning of the log lines of a verdict.
pub const PREFIX_ALLOW: &str = "allow";
/// A packet to where its machine may not go.
pub const PREFIX_DENY: &str = "deny";
/// A connection more than the machine may have.
pub const PREFIX_LIMIT: &str = "limit";
/// A forbidden frame of a machine: a foreign address, another protocol.
pub const PREFIX_FRAME: &str = "frame";
/// A packet that a machine's QEMU sends itself, as a process of the host.
pub const PREFIX_QEMU: &str = "qemu";

/// The set for this version of IP.
pub(super) fn of(sets: [&'static str; 2], version: Version) -> &'static str {
    let [four, six] = sets;
    match version {
        Version::Four => four,
        Version::Six => six,
    }
}

/// The chains of one owner.
#[derive(Clone, Debug)]
pub(super) struct OwnerChains {
    pub leave: String,
    pub arrive: String,
    pub bridged: String,
    pub pool: String,
    pub begin: String,
}

impl OwnerChains {
    pub fn of(owner_uid: &OwnerUid) -> Self {
        let hash = short_hash(&["policy", owner_uid.as_str()], 12);
        let name = |what: &str| format!("{what}_{hash}");
        Self {
            leave: name("leave"),
            arrive: name("arrive"),
            bridged: name("abroad"),
            pool: name("pool"),
            begin: name("begin"),
        }
    }

    pub fn in_bridge(&self) -> [&str; 3] {
        [&self.leave, &self.arrive, &self.bridged]
    }

    pub fn in_inet(&self) -> [&str; 2] {
        [&self.pool, &self.begin]
    }
}
