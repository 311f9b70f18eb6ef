//! What is asked of the kernel, as messages. Nothing is done here.

use std::net::{IpAddr, Ipv4Addr};

use agentvm_guest_agent::protocol::GuestNetwork;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

/// One request, and what it is called when it fails.
#[derive(Debug)]
pub struct Change {
    pub what: &'static str,
    pub message: Vec<u8>,
}

/// From an empty interface that is down to what was ordered. In this order: each needs the one before.
pub fn wanted(index: u32, order: &GuestNetwork) -> Vec<Change> {
    vec![
        mac(index, order.mac.bytes()),
        up(index),
        address(index, order.address, order.prefix),
        neighbour(index, order.gateway, order.gateway_mac.bytes()),
        default_route(index, order.gateway),
    ]
}

pub fn down(index: u32) -> Change {
    link("bringing the interface down", index, |message| message.header.change_mask = LinkFlags::Up)
}

fn up(index: u32) -> Change {
    link("bringing the interface up", index, |message| {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    })
}

pub fn mac(index: u32, mac: [u8; 6]) -> Change {
    link("setting the MAC address", index, |message| message.attributes.push(LinkAttribute::Address(mac.to_vec())))
}

fn link(what: &'static str, index: u32, fill: impl FnOnce(&mut LinkMessage)) -> Change {
    let mut message = LinkMessage::default();
    message.header.index = index;
    fill(&mut message);
    change(what, 0, RouteNetlinkMessage::SetLink(message))
}

/// The kernel takes the first one that it finds.
pub fn any_address_away(index: u32) -> Change {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = index;
    change("removing an address", 0, RouteNetlinkMessage::DelAddress(message))
}

fn address(index: u32, address: Ipv4Addr, prefix: u8) -> Change {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = index;
    message.header.prefix_len = prefix;
    message.header.scope = AddressScope::Universe;
    let address = IpAddr::V4(address);
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    change("adding the address", NLM_F_CREATE | NLM_F_REPLACE, RouteNetlinkMessage::NewAddress(message))
}

fn neighbour(index: u32, address: Ipv4Addr, mac: [u8; 6]) -> Change {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)),
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
    ];
    change("adding the gateway's MAC address", NLM_F_CREATE | NLM_F_REPLACE, RouteNetlinkMessage::NewNeighbour(message))
}

pub fn default_route(index: u32, gateway: Ipv4Addr) -> Change {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(index)];
    change("adding the default route", NLM_F_CREATE | NLM_F_REPLACE, RouteNetlinkMessage::NewRoute(message))
}

fn change(what: &'static str, flags: u16, message: RouteNetlinkMessage) -> Change {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    Change { what, message: bytes }
}
