//! What machines on our own bridge reach: the packets that the host routes.
//!
//! Every packet of a machine is judged by its destination, also within a connection: a policy that is tightened holds
//! for the connections that are there, and one that is changed otherwise costs them nothing.

use agentvm_crds::Protocol;
use ipnet::Ipv4Net;

use super::Wanted;
use super::ir::{Chain, LogKey, Rule, Side, Then, When, rule};
use super::limits::begins;
use super::names::{ALLOWED, DENIED, LIMITED, OwnerChains, POOLS, PREFIX_ALLOW, PREFIX_DENY, PREFIX_LIMIT, REFUSE};
use super::ranges::{merged, names_private, nowhere, private};
use crate::network::{Allow, Policy, PortRange};

/// TCP ports of public addresses that every machine reaches: SSH, HTTP, HTTPS, git.
pub const DEFAULT_PORTS: [u16; 4] = [22, 80, 443, 9418];

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
        Chain::new("to_machine", to_machine()),
        refusing(wanted, REFUSE, PREFIX_DENY),
        refusing(wanted, LIMITED, PREFIX_LIMIT),
    ]
}

fn from_machine(wanted: &Wanted<'_>) -> Vec<Rule> {
    let refuse = || Then::Goto(REFUSE.into());
    let never = nowhere().into_iter().chain(wanted.never.iter().copied()).chain([wanted.subnet.net()]);
    vec![
        rule([When::NotIpv4], Then::Drop),
        // No way back to another machine over the router, whatever its address.
        rule([When::Interface(Side::Out, wanted.subnet.bridge.clone())], refuse()),
        rule([When::NotUnicast], refuse()),
        // A published port of the host, an address of a service: what it was sent to can't be reached, so neither can this.
        rule([When::Redirected], refuse()),
        rule([When::Destination(merged(never))], refuse()),
        rule([When::Invalid], Then::Drop),
        rule([], Then::BySource(POOLS)),
        rule([], Then::Drop),
    ]
}

fn to_machine() -> Vec<Rule> {
    vec![
        rule([When::NotIpv4], Then::Drop),
        rule([When::NotToLinked], Then::Drop),
        rule([When::Answer], Then::Accept),
        rule([When::PathMtu], Then::Accept),
        rule([], Then::Drop),
    ]
}

fn refusing(wanted: &Wanted<'_>, name: &str, prefix: &'static str) -> Chain {
    let log = Then::Log { prefix, group: wanted.table.log_group(), by: LogKey::Source };
    Chain::new(name, vec![rule([], Then::CountSource(DENIED)), rule([], log), rule([], Then::Drop)])
}

/// The chains of one policy: where to, and what a connection that is let through goes through.
pub(super) fn of_policy(wanted: &Wanted<'_>, owner_uid: &str, policy: &Policy) -> [Chain; 2] {
    let chains = OwnerChains::of(owner_uid);
    let begin = || Then::Goto(chains.begin.clone());
    let mut rules = reachable(policy, &begin);
    rules.push(rule([], Then::Goto(REFUSE.into())));
    let log = Then::Log { prefix: PREFIX_ALLOW, group: wanted.table.log_group(), by: LogKey::Source };
    let beginning = vec![
        rule([When::Known], Then::Accept),
        // First: what is refused here isn't even counted.
        rule([When::BeginsOver(begins(policy.limits.connections))], Then::Goto(LIMITED.into())),
        rule([When::ConnectionsOver(policy.limits.connections)], Then::Goto(LIMITED.into())),
        rule([], Then::CountSource(ALLOWED)),
        rule([], log),
        rule([], Then::Accept),
    ];
    [Chain::new(chains.pool.clone(), rules), Chain::new(chains.begin, beginning)]
}

fn reachable(policy: &Policy, yes: &dyn Fn() -> Then) -> Vec<Rule> {
    let mut rules = named_private(policy, yes);
    rules.push(rule([When::Destination(private())], Then::Goto(REFUSE.into())));
    let ports = DEFAULT_PORTS.map(|port| PortRange { first: port, last: port }).to_vec();
    rules.push(rule([When::Service(Protocol::Tcp, ports)], yes()));
    rules.push(rule([When::Service(Protocol::Icmp, Vec::new())], yes()));
    rules.extend(policy.allow.iter().filter_map(|allow| {
        let public: Vec<Ipv4Net> = allow.cidrs.iter().filter(|net| !names_private(net)).copied().collect();
        match (allow.cidrs.is_empty(), public.is_empty()) {
            (true, _) => Some(rule([service(allow)], yes())),
            (false, true) => None,
            (false, false) => Some(rule([When::Destination(merged(public)), service(allow)], yes())),
        }
    }));
    rules
}

/// What comes before private ranges are refused: the resolvers, and networks that were named.
pub(super) fn named_private(policy: &Policy, yes: &dyn Fn() -> Then) -> Vec<Rule> {
    let resolvers = merged(policy.resolvers.iter().map(|address| Ipv4Net::from(*address)));
    let dns = (!resolvers.is_empty()).then(|| rule([When::Destination(resolvers), When::Dns], yes()));
    let named = policy.allow.iter().filter_map(|allow| {
        let nets = merged(allow.cidrs.iter().filter(|net| names_private(net)).copied());
        (!nets.is_empty()).then(|| rule([When::Destination(nets), service(allow)], yes()))
    });
    dns.into_iter().chain(named).collect()
}

/// "Every port" isn't the port of DNS: names are asked of the resolver, unless another is allowed in so many words.
fn service(allow: &Allow) -> When {
    let all_but_dns = || vec![PortRange { first: 0, last: 52 }, PortRange { first: 54, last: u16::MAX }];
    match allow.protocol {
        Protocol::Icmp => When::Service(Protocol::Icmp, Vec::new()),
        protocol if allow.ports.is_empty() => When::Service(protocol, all_but_dns()),
        protocol => When::Service(protocol, allow.ports.clone()),
    }
}
