//! Entries that say which MAC address is where: on a bridge's port, or behind an IPv6 address.

use std::io;
use std::net::Ipv6Addr;

use agentvm_core::network::Mac;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::route::put;

/// Says that a machine is behind this port of a bridge, and nowhere else. The entry is sticky: a
/// frame with that MAC on another port doesn't move it.
pub fn pin_to_port(port: u32, mac: Mac) -> io::Result<()> {
    let header = NeighbourHeader {
        family: AddressFamily::Bridge,
        ifindex: port,
        state: NeighbourState::Noarp,
        flags: NeighbourFlags::Controller | NeighbourFlags::Sticky,
        ..NeighbourHeader::default()
    };
    enter(header, vec![link_address(mac)])
}

/// Says for good which MAC has an IPv6 address, so that the host doesn't look for it.
pub fn pin_address(device: u32, address: Ipv6Addr, mac: Mac) -> io::Result<()> {
    let header = NeighbourHeader {
        family: AddressFamily::Inet6,
        ifindex: device,
        state: NeighbourState::Permanent,
        ..NeighbourHeader::default()
    };
    let to = NeighbourAttribute::Destination(NeighbourAddress::Inet6(address));
    enter(header, vec![to, link_address(mac)])
}

fn link_address(mac: Mac) -> NeighbourAttribute {
    NeighbourAttribute::LinkLayerAddress(mac.bytes().to_vec())
}

fn enter(header: NeighbourHeader, attributes: Vec<NeighbourAttribute>) -> io::Result<()> {
    let mut entry = NeighbourMessage::default();
    (entry.header, entry.attributes) = (header, attributes);
    put(RouteNetlinkMessage::NewNeighbour(entry))
}
