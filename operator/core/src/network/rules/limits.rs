//! The rates at which a machine may send, receive and fill the log. The first two apply before any
//! other rule looks at its frames.

use super::ir::{Chain, Ether, Rule, Set, SetKind, Side, Then, When, rule};
use super::names::OwnerChains;
use crate::network::{LinkLimits, Policy};
use agentvm_types::OwnerUid;

/// Room for every machine of a host: a full set would not limit anything. The kernel allocates a
/// table for all of it when the set is made, so it is no larger than machines can be on one host:
/// 245 have an address in the subnet, and the others are on bridges of the host.
pub(super) const METER_SIZE: u32 = 4096;
/// Servers in the networks of the host's bridges give the addresses, not machines. There is one
/// such set.
pub(super) const HEARD_SIZE: u32 = 65_535;

/// The log lines of one machine and one verdict in a second, and the burst.
pub(super) const LOG_RATE: &str = "10/second burst 50 packets";
/// The bytes of a packet that show its destination.
pub(super) const LOG_BYTES: u32 = 96;

/// Connections count for a machine, by either version of IP. The MAC has been pinned by then.
pub(super) const BY_MAC: &str = "ether saddr";

/// A burst of a quarter of a second.
pub(super) fn packet_burst(rate: u32) -> u32 {
    (rate / 4).max(50)
}

/// The burst: the kernel always lets it pass on top of a second's worth. It is an eighth of a
/// second, but at least a few of the largest segments.
pub(super) fn byte_burst(rate: u64) -> u64 {
    (rate / 8).clamp(256 * 1024, 64 * 1024 * 1024)
}

/// New connections in a second. Finished connections count in no limit, but stay in the kernel's
/// table for two minutes, and the whole host shares that table. So the most is 30,000 for each
/// machine; the table of an ordinary host holds 262,144.
pub(super) fn begins(connections: u32) -> u32 {
    (connections / 4).clamp(16, 256)
}

/// The chains that a tap's frames go through on their way out and in.
pub(super) fn of_policy(owner_uid: &OwnerUid, policy: &Policy) -> [Chain; 2] {
    let chains = OwnerChains::of(owner_uid);
    let mut arriving = over(&policy.limits, Side::Out);
    // No other packet is for a machine: no router announces itself on our bridge, and the host
    // sends nothing else by itself.
    arriving.push(rule([When::Frame(Ether::Ipv4)], Then::Accept));
    arriving.push(rule([When::Frame(Ether::Arp)], Then::Accept));
    if policy.ipv6 {
        arriving.push(rule([When::Frame(Ether::Ipv6)], Then::Accept));
    }
    arriving.push(rule([], Then::Drop));
    [Chain::new(chains.leave, over(&policy.limits, Side::In)), Chain::new(chains.arrive, arriving)]
}

fn over(limits: &LinkLimits, side: Side) -> Vec<Rule> {
    let mut rules = vec![rule([When::PacketsOver(side, limits.packets_per_second)], Then::Drop)];
    rules.extend(
        limits.bytes_per_second.map(|rate| rule([When::BytesOver(side, rate)], Then::Drop)),
    );
    rules
}

/// The sets for the limits of this policy. Their names contain the number, so another limit begins
/// with a new set.
pub(super) fn bridge_sets(limits: &LinkLimits) -> Vec<Set> {
    let sides = [Side::In, Side::Out];
    let packets = sides.map(|side| (side, packets_set(side, limits.packets_per_second)));
    let bytes = limits.bytes_per_second.map(|rate| sides.map(|side| (side, bytes_set(side, rate))));
    let all = packets.into_iter().chain(bytes.into_iter().flatten());
    all.map(|(side, name)| Set::new(name, SetKind::Rates, interface(side))).collect()
}

pub(super) fn inet_sets(limits: &LinkLimits) -> Vec<Set> {
    vec![
        Set::new(begins_set(begins(limits.connections)), SetKind::Rates, BY_MAC),
        Set::new(connections_set(limits.connections), SetKind::Connections, BY_MAC),
    ]
}

pub(super) fn interface(side: Side) -> &'static str {
    match side {
        Side::In => "iifname",
        Side::Out => "oifname",
    }
}

pub(super) fn packets_set(side: Side, rate: u32) -> String {
    format!("{}_packets_{rate}", word(side))
}

pub(super) fn bytes_set(side: Side, rate: u64) -> String {
    format!("{}_bytes_{rate}", word(side))
}

pub(super) fn begins_set(rate: u32) -> String {
    format!("begins_{rate}")
}

pub(super) fn connections_set(limit: u32) -> String {
    format!("connections_{limit}")
}

fn word(side: Side) -> &'static str {
    match side {
        Side::In => "leaving",
        Side::Out => "arriving",
    }
}
