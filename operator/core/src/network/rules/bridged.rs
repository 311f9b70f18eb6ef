//! The permitted frames of a machine on a bridge of the host: it is one member of a foreign
//! network.

use agentvm_types::OwnerUid;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::Wanted;
use super::forward::named_private;
use super::ir::{Chain, Ether, Rule, Then, Version, When, rule};
use super::names::{OwnerChains, REFUSE};
use super::ranges::{nowhere, private, to};
use crate::network::{Mac, Policy};

/// The permitted frames of a policy's machines on a bridge of the host: no IPv6, and no foreign
/// source. Ports are filtered elsewhere. Destinations that are never opened are closed here too,
/// and so is the host, which that network's router may lead to. No machine offers addresses or
/// routes.
pub(super) fn chain(wanted: &Wanted<'_>, owner_uid: &OwnerUid, policy: &Policy) -> Chain {
    let refuse = || Then::Goto(REFUSE.into());
    let to = |nets: Vec<IpNet>| to(nets, false).map(|(_, nets)| nets);
    let closed = wanted.deny_list.iter().chain(wanted.host_addresses).copied();
    let closed = nowhere().into_iter().chain(closed).chain(wanted.nets()).collect();
    let arp = |whose| [When::Frame(Ether::Arp), When::PlainArp, When::StationArp, whose];
    let mut rules: Vec<Rule> = vec![
        rule(arp(When::LeasedArp), Then::Accept),
        // A machine without an address may ask whether an address is in use.
        rule(arp(When::NobodysArp), Then::Accept),
        rule([When::NotFrame(Ether::Ipv4)], refuse()),
        rule(asks_for_address(When::Source(only(Ipv4Addr::UNSPECIFIED))), Then::Accept),
        rule(asks_for_address(When::Leased), Then::Accept),
        rule([When::UdpFrom(67)], refuse()),
        // A relay of that network would pass on the machine's message in its own name.
        rule([When::UdpTo(67)], refuse()),
        rule([When::ToGroup], refuse()),
    ];
    rules.extend(to(closed).map(|closed| rule([closed], refuse())));
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

/// A DHCP client's broadcast question. A question to one server would pass to any address.
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
