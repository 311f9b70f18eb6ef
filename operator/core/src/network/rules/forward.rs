//! The destinations of machines on our own bridge: the packets that the host routes.
//!
//! The destination of every packet is judged, also within a connection. So a tighter policy holds
//! for existing connections, and another change of the policy costs them nothing.

use std::net::IpAddr;

use agentvm_crds::Protocol;
use agentvm_types::OwnerUid;
use ipnet::IpNet;

use super::Wanted;
use super::ir::{Chain, LogKey, Rule, Side, Then, Transport, Version, When, rule};
use super::limits::begins;
use super::names::{
    ALLOWED, DENIED, LIMITED, OwnerChains, PREFIX_ALLOW, PREFIX_DENY, PREFIX_LIMIT, REFUSE,
};
use super::ranges::{names_private, nowhere, private, to};
use crate::network::{Allow, DEFAULT_PORTS, Policy, PortRange};

/// The chains that every policy shares.
pub(super) fn shared(wanted: &Wanted<'_>) -> Vec<Chain> {
    let bridge = || wanted.subnet.bridge.clone();
    vec![
        Chain::base(
            "forward",
            "type filter hook forward priority filter - 10",
            vec![
                rule([When::Interface(Side::In, bridge())], Then::Goto("from_machine".into())),
                rule([When::Interface(Side::Out, bridge())], Then::Goto("to_machine".into())),
            ],
        ),
        Chain::new("from_machine", from_machine(wanted)),
        Chain::new("to_machine", to_machine(wanted.ipv6())),
        refusing(wanted, REFUSE, PREFIX_DENY),
        refusing(wanted, LIMITED, PREFIX_LIMIT),
    ]
}

fn from_machine(wanted: &Wanted<'_>) -> Vec<Rule> {
    let refuse = || Then::Goto(REFUSE.into());
    let six = wanted.ipv6();
    let closed = nowhere().into_iter().chain(wanted.deny_list.iter().copied()).chain(wanted.nets());
    let mut rules = only_asked_for(six);
    // The router is no way back to another machine, whatever its address.
    rules.push(rule([When::Interface(Side::Out, wanted.subnet.bridge.clone())], refuse()));
    rules.extend(versions(six).map(|version| rule([When::NotUnicast(version)], refuse())));
    // A published port of the host, or a service address: the original destination is not
    // reachable, so this one is not either.
    rules.push(rule([When::Redirected], refuse()));
    rules.extend(to(closed, six).map(|(_, closed)| rule([closed], refuse())));
    rules.push(rule([When::Invalid], Then::Drop));
    rules.extend(versions(six).map(|version| rule([], Then::BySource(version))));
    rules.push(rule([], Then::Drop));
    rules
}

fn to_machine(six: bool) -> Vec<Rule> {
    let mut rules = only_asked_for(six);
    rules.extend(versions(six).map(|version| rule([When::NotToLinked(version)], Then::Drop)));
    rules.push(rule([When::Answer], Then::Accept));
    rules.extend(versions(six).map(|version| rule([When::PathMtu(version)], Then::Accept)));
    rules.push(rule([], Then::Drop));
    rules
}

/// There is no IPv6 where no pool asks for it.
fn only_asked_for(six: bool) -> Vec<Rule> {
    if six { Vec::new() } else { vec![rule([When::NotIpv4], Then::Drop)] }
}

/// Those of IP that are asked for.
pub(super) fn versions(six: bool) -> impl Iterator<Item = Version> {
    [Version::Four].into_iter().chain(six.then_some(Version::Six))
}

fn refusing(wanted: &Wanted<'_>, name: &str, prefix: &'static str) -> Chain {
    let log = Then::Log { prefix, group: wanted.table.log_group(), by: LogKey::Mac };
    Chain::new(name, vec![rule([], Then::CountByMac(DENIED)), rule([], log), rule([], Then::Drop)])
}

/// The chains of one policy: its destinations, and the path of a permitted connection.
pub(super) fn of_policy(wanted: &Wanted<'_>, owner_uid: &OwnerUid, policy: &Policy) -> [Chain; 2] {
    let chains = OwnerChains::of(owner_uid);
    let begin = || Then::Goto(chains.begin.clone());
    let mut rules = reachable(policy, &begin);
    // Also where no pool asks for IPv6: another pool's wish changes nothing in this chain.
    if !policy.ipv6 {
        rules.insert(0, rule([When::NotIpv4], Then::Goto(REFUSE.into())));
    }
    rules.push(rule([], Then::Goto(REFUSE.into())));
    let log = Then::Log { prefix: PREFIX_ALLOW, group: wanted.table.log_group(), by: LogKey::Mac };
    let beginning = vec![
        rule([When::Known], Then::Accept),
        // This comes first: a refused packet is not even counted.
        rule([When::BeginsOver(begins(policy.limits.connections))], Then::Goto(LIMITED.into())),
        rule([When::ConnectionsOver(policy.limits.connections)], Then::Goto(LIMITED.into())),
        rule([], Then::CountByMac(ALLOWED)),
        rule([], log),
        rule([], Then::Accept),
    ];
    [Chain::new(chains.pool.clone(), rules), Chain::new(chains.begin, beginning)]
}

fn reachable(policy: &Policy, yes: &dyn Fn() -> Then) -> Vec<Rule> {
    let mut rules = named_private(policy, policy.ipv6, yes);
    rules.extend(
        to(private(), policy.ipv6).map(|(_, private)| rule([private], Then::Goto(REFUSE.into()))),
    );
    let ports = DEFAULT_PORTS.map(|port| PortRange { first: port, last: port }).to_vec();
    rules.push(rule([When::Ports(Transport::Tcp, ports)], yes()));
    rules.extend(versions(policy.ipv6).map(|version| rule([When::EchoRequest(version)], yes())));
    rules.extend(policy.allow.iter().flat_map(|allow| {
        if allow.cidrs.is_empty() {
            anywhere(allow, policy.ipv6).into_iter().map(|service| rule([service], yes())).collect()
        } else {
            to_named(allow, |net| !names_private(net), policy.ipv6, yes)
        }
    }));
    rules
}

/// These come before private ranges are refused: the resolvers, and named networks.
pub(super) fn named_private(policy: &Policy, six: bool, yes: &dyn Fn() -> Then) -> Vec<Rule> {
    let resolvers = policy.resolvers.iter().map(|address| IpNet::from(IpAddr::from(*address)));
    let dns = to(resolvers, six).map(|(_, resolvers)| rule([resolvers, When::Dns], yes()));
    let named = policy.allow.iter().flat_map(|allow| to_named(allow, names_private, six, yes));
    dns.chain(named).collect()
}

/// Those of its networks that are chosen.
fn to_named(
    allow: &Allow,
    chosen: impl Fn(&IpNet) -> bool,
    six: bool,
    yes: &dyn Fn() -> Then,
) -> Vec<Rule> {
    let nets = to(allow.cidrs.iter().filter(|net| chosen(net)).copied(), six);
    nets.map(|(version, nets)| rule([nets, service(allow, version)], yes())).collect()
}

fn anywhere(allow: &Allow, six: bool) -> Vec<When> {
    match allow.protocol {
        Protocol::Icmp => versions(six).map(When::EchoRequest).collect(),
        Protocol::Tcp | Protocol::Udp => vec![service(allow, Version::Four)],
    }
}

/// "Every port" does not include DNS: machines ask the resolver, unless the policy names another
/// one.
fn service(allow: &Allow, version: Version) -> When {
    let all_but_dns =
        || vec![PortRange { first: 0, last: 52 }, PortRange { first: 54, last: u16::MAX }];
    let ports = if allow.ports.is_empty() { all_but_dns() } else { allow.ports.clone() };
    match allow.protocol {
        Protocol::Icmp => When::EchoRequest(version),
        Protocol::Tcp => When::Ports(Transport::Tcp, ports),
        Protocol::Udp => When::Ports(Transport::Udp, ports),
    }
}
