//! Bridges of the host, and a machine's port in one.
//!
//! A bridge takes frames to link-local groups before any rule sees them. It would take a guest's
//! STP for another bridge's, and it would learn from a guest's LLDP that the guest's gateway is
//! behind that port. libvirt isolates a port from the ports of other machines (the domain's XML
//! says so). The settings here are those that libvirt has no words for.

use std::io;

use agentvm_core::network::{Nic, Wire};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    BridgeBooleanOptionFlags, BridgeBooleanOptions, InfoBridge, InfoBridgePort, InfoData, InfoKind,
    InfoPortData, InfoPortKind, LinkAttribute, LinkInfo, LinkMessage,
};

use super::route::order;
use super::{device, neighbour};

/// All link-local groups but the three that no bridge forwards.
const FORWARDED_GROUPS: u16 = 0xfff8;

/// Keeps a bridge from learning places from frames to link-local groups, LLDP and the like. Such a
/// frame in a neighbour's name would bring its sender the neighbour's frames. The groups that a
/// bridge can forward go through the rules as well.
pub fn disable_link_local_learning(bridge: &str) -> io::Result<()> {
    let no_learning = BridgeBooleanOptionFlags::NoLinkLocalLearn;
    let data = vec![
        InfoBridge::GroupFwdMask(FORWARDED_GROUPS),
        InfoBridge::MultiBoolOpt(BridgeBooleanOptions { value: no_learning, mask: no_learning }),
    ];
    let info = vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(data))];
    let mut link = device::named(bridge);
    link.attributes.push(LinkAttribute::LinkInfo(info));
    order(RouteNetlinkMessage::NewLink(link))
}

/// Hardens a machine's port before it goes up. Our own bridge needs none of this: no STP is spoken
/// there, and [`disable_link_local_learning`] covers the rest.
pub fn harden_port(nic: &Nic) -> io::Result<()> {
    let Wire::Bridge { .. } = nic.wire else { return Ok(()) };
    let index = device::index(&nic.tap)?;
    // The guard switches a port off when it receives a BPDU, until its device is set down.
    let data = vec![InfoBridgePort::Guard(true), InfoBridgePort::Learning(false)];
    let info = vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(data)),
    ];
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.push(LinkAttribute::LinkInfo(info));
    order(RouteNetlinkMessage::NewLink(link))?;
    neighbour::pin_to_port(index, nic.mac)
}
