//! What a machine on a bridge of the host may say there: it is one more of a network that others look after.

use agentvm_types::OwnerUid;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::Wanted;
use super::forward::named_private;
use super::ir::{Chain, Ether, Rule, Then, Version, When, rule};
use super::names::{OwnerChains, REFUSE};
use super::ranges::{nowhere, private, to};
use crate::network::{Mac, Policy};

/// What the machines of a policy may say on a bridge of the host: no IPv6, and nothing in another's name. Ports are filtered elsewhere; what is
/// never reachable isn't there either, nor is the host, which that network's router may lead to; and nobody offers addresses or routes.
pub(super) fn chain(wanted: &Wanted<'_>, owner_uid: &OwnerUid, policy: &Policy) -> Chain {
    let refuse = || Then::Goto(REFUSE.into());
    let to = |nets: Vec<IpNet>| to(nets, false).map(|(_, nets)| nets);
    let never = wanted.deny_list.iter().chain(wanted.host_addresses).copied();
    let never = nowhere().into_iter().chain(never).chain(wanted.nets()).collect();
    let arp = |whose| [When::Frame(Ether::Arp), When::PlainArp, When::StationArp, whose];
    let mut rules: Vec<Rule> = vec![
        rule(arp(When::LeasedArp), Then::Accept),
        // Who has no address may ask whether anybody has it.
        rule(arp(When::NobodysArp), Then::Accept),
        rule([When::NotFrame(Ether::Ipv4)], refuse()),
        rule(asks_for_address(When::Source(only(Ipv4Addr::UNSPECIFIED))), Then::Accept),
        rule(asks_for_address(When::Leased), Then::Accept),
        rule([When::UdpFrom(67)], refuse()),
        // A relay of that network's, wherever it is, would pass on in its own name what it is told.
        rule([When::UdpTo(67)], refuse()),
        rule([When::ToGroup], refuse()),
    ];
    rules.extend(to(never).map(|never| rule([never], refuse())));
    let yes = [When::Station, When::Leased, When::PlainIp(Version::Four)];
    let named = named_private(policy, false, &|| Then::Accept);
    rules.extend(
        named.into_iter().map(|named| rule([yes.to_vec(), named.when].concat(), named.then)),
    );
    rules.extend(to(private()).map(|private| rule([private], refuse())));
    rules.push(rule(yes, Then::Accept));
    rules.push(rule([], refuse()));
    Chain::new(OwnerChains::of(owner_uid).bridged, rules)
}

/// What a DHCP client asks everybody: what is for one server would be let through to any address.
fn asks_for_address(from: When) -> [When; 6] {
    [
        When::Station,
        When::PlainIp(Version::Four),
        When::ToMac(Mac::BROADCAST),
        from,
        When::Destination(vec![only(Ipv4Addr::BROADCAST)]),
        When::ClientQuestion,
    ]
}

fn only(address: Ipv4Addr) -> IpNet {
    IpAddr::from(address).into()
}
