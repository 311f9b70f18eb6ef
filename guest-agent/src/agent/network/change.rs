//! The requests to the kernel, as messages. This file does nothing itself.
//!
//! The messages are written by hand. A crate that knows every message made the agent, and so the
//! memory of every machine, half a megabyte larger for six of them.

use std::net::IpAddr;

use agentvm_guest_agent::protocol::{GuestIpv6, GuestNetwork};

/// One request, and its name for errors.
#[derive(Debug)]
pub struct Change {
    pub what: &'static str,
    pub message: Vec<u8>,
}

/// Kinds of messages: `RTM_*`.
const SET_LINK: u16 = 19;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
const NEW_NEIGHBOUR: u16 = 28;

/// `NLM_F_REQUEST | NLM_F_ACK`; with `NLM_F_REPLACE | NLM_F_CREATE` for things that may exist.
const REQUEST: u16 = 0x005;
const PUT: u16 = 0x505;

const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// `IFF_UP`, as a flag and as the mask of flags to change.
const UP: u32 = 1;
/// `IFLA_ADDRESS` of a link.
const MAC: u16 = 1;

/// From an empty interface that is down to the ordered network. Each request needs the one before
/// it.
pub fn wanted(index: u32, order: &GuestNetwork) -> Vec<Change> {
    let place = |address, prefix, gateway| {
        [
            self::address(index, address, prefix),
            neighbour(index, gateway, order.gateway_mac.bytes()),
            default_route(index, gateway),
        ]
    };
    let four = place(order.address.into(), order.prefix, order.gateway.into());
    let six = order.ipv6.map(|GuestIpv6 { address, prefix, gateway }| {
        place(address.into(), prefix, gateway.into())
    });
    [up(index, order.mac.bytes())]
        .into_iter()
        .chain(four)
        .chain(six.into_iter().flatten())
        .collect()
}

pub fn down(index: u32) -> Change {
    Change {
        what: "bringing the interface down",
        message: message(SET_LINK, REQUEST, &link(index, 0, UP), &[]),
    }
}

/// The kernel changes the MAC first.
pub fn up(index: u32, mac: [u8; 6]) -> Change {
    let message = message(SET_LINK, REQUEST, &link(index, UP, UP), &[(MAC, &mac)]);
    Change { what: "bringing the interface up with its MAC address", message }
}

pub fn mac(index: u32, mac: [u8; 6]) -> Change {
    let message = message(SET_LINK, REQUEST, &link(index, 0, 0), &[(MAC, &mac)]);
    Change { what: "setting the MAC address", message }
}

/// `struct ifinfomsg`: family, padding, type u16 | index | flags | mask
fn link(index: u32, flags: u32, mask: u32) -> [u8; 16] {
    packed(&[&[0; 4], &index.to_ne_bytes(), &flags.to_ne_bytes(), &mask.to_ne_bytes()])
}

/// Removes an address: the kernel picks the first one that it finds.
pub fn any_address_away(index: u32) -> Change {
    let message = message(DELETE_ADDRESS, REQUEST, &on_interface(IPV4, index, 0, 0), &[]);
    Change { what: "removing an address", message }
}

/// An IPv6 address is used at once, without asking for duplicates.
pub fn address(index: u32, address: IpAddr, prefix: u8) -> Change {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    const NO_DETECTION: u8 = 2;
    let flags = if address.is_ipv6() { NO_DETECTION } else { 0 };
    let (family, octets) = octets(address);
    let place = on_interface(family, index, prefix, flags);
    let message = message(NEW_ADDRESS, PUT, &place, &[(LOCAL, &octets), (ADDRESS, &octets)]);
    Change { what: "adding the address", message }
}

/// `struct ifaddrmsg`: family, prefix, flags, scope (0: everywhere) | index
fn on_interface(family: u8, index: u32, prefix: u8, flags: u8) -> [u8; 8] {
    packed(&[&[family, prefix, flags, 0], &index.to_ne_bytes()])
}

/// Its family, and itself as it is sent.
fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (IPV4, address.octets().to_vec()),
        IpAddr::V6(address) => (IPV6, address.octets().to_vec()),
    }
}

/// `struct ndmsg`: family, padding | index | state u16, flags, type
fn neighbour(index: u32, address: IpAddr, mac: [u8; 6]) -> Change {
    const PERMANENT: u16 = 0x80;
    const ADDRESS: u16 = 1;
    const LINK_ADDRESS: u16 = 2;
    let (family, octets) = octets(address);
    let header: [u8; 12] =
        packed(&[&[family, 0, 0, 0], &index.to_ne_bytes(), &PERMANENT.to_ne_bytes(), &[0; 2]]);
    let message = message(NEW_NEIGHBOUR, PUT, &header, &[(ADDRESS, &octets), (LINK_ADDRESS, &mac)]);
    Change { what: "adding the gateway's MAC address", message }
}

/// `struct rtmsg`: family, lengths of destination and source, TOS | table, protocol, scope, type |
/// flags u32
pub fn default_route(index: u32, gateway: IpAddr) -> Change {
    const MAIN: u8 = 254;
    const STATIC: u8 = 4;
    const EVERYWHERE: u8 = 0;
    const UNICAST: u8 = 1;
    const INTERFACE: u16 = 4;
    const GATEWAY: u16 = 5;
    let (family, octets) = octets(gateway);
    let header: [u8; 12] =
        packed(&[&[family, 0, 0, 0], &[MAIN, STATIC, EVERYWHERE, UNICAST], &[0; 4]]);
    let through = [(INTERFACE, &index.to_ne_bytes()[..]), (GATEWAY, &octets[..])];
    Change { what: "adding the default route", message: message(NEW_ROUTE, PUT, &header, &through) }
}

/// Parts that together are so long.
fn packed<const LENGTH: usize>(parts: &[&[u8]]) -> [u8; LENGTH] {
    let mut whole = [0; LENGTH];
    for (to, from) in whole.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
    }
    whole
}

/// `struct nlmsghdr`: length u32 | kind u16, flags u16 | sequence u32 | sender u32; then the header
/// of the kind, and attributes: length u16, type u16, value, filled up to four bytes.
fn message(kind: u16, flags: u16, header: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    const HEADER: usize = 16;
    const ATTRIBUTE: usize = 4;
    let mut body = header.to_vec();
    for (name, value) in attributes {
        body.extend(u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX).to_ne_bytes());
        body.extend(name.to_ne_bytes());
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut message = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}
