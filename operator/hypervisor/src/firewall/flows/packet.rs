//! The destination of a packet. Every byte is a guest's, and there may be any number of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agentvm_core::network::{Destination, Mac, Protocol, Target, TargetKind};

use super::message::Logged;
use crate::firewall::netlink::raw::first;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
const VLAN_OF_VLANS: u16 = 0x88a8;
const IPV6: u16 = 0x86dd;

/// Source and target of a packet that starts with its IP header; `None` for any other packet.
pub fn of_ip(packet: &[u8]) -> Option<(IpAddr, Target)> {
    let four = of_ipv4(packet).map(|(source, target)| (source.into(), target));
    four.or_else(|| of_ipv6(packet).map(|(source, target)| (source.into(), target)))
}

/// Only plain packets have a port; a packet behind another header has none.
fn of_ipv6(packet: &[u8]) -> Option<(Ipv6Addr, Target)> {
    const HEADER: usize = 40;
    const ICMP: u8 = 58;
    if *packet.first()? >> 4 != 6 {
        return None;
    }
    let source = Ipv6Addr::from(first::<16>(packet.get(8..)?)?);
    let to = Ipv6Addr::from(first::<16>(packet.get(24..)?)?);
    Some((source, target(*packet.get(6)?, ICMP, to.into(), packet.get(HEADER..))))
}

fn of_ipv4(packet: &[u8]) -> Option<(Ipv4Addr, Target)> {
    const ICMP: u8 = 1;
    let start = *packet.first()?;
    let header = usize::from(start & 15) * 4;
    if start >> 4 != 4 || header < 20 {
        return None;
    }
    let source = Ipv4Addr::from(first::<4>(packet.get(12..)?)?);
    let to = Ipv4Addr::from(first::<4>(packet.get(16..)?)?);
    let protocol = *packet.get(9)?;
    let fragment = u16::from_be_bytes(first(packet.get(6..)?)?) & 0x1fff != 0;
    let begins = packet.get(header..).filter(|_| !fragment);
    Some((source, target(protocol, ICMP, to.into(), begins)))
}

/// `begins`: the bytes behind the IP header, at the place of a port.
fn target(protocol: u8, icmp: u8, to: IpAddr, begins: Option<&[u8]>) -> Target {
    let kind = match protocol {
        6 => TargetKind::Ip(Protocol::Tcp),
        17 => TargetKind::Ip(Protocol::Udp),
        its if its == icmp => TargetKind::Ip(Protocol::Icmp),
        other => TargetKind::OtherIp(other),
    };
    let has_port = matches!(kind, TargetKind::Ip(Protocol::Tcp | Protocol::Udp));
    let port = begins
        .and_then(|bytes| bytes.get(2..))
        .filter(|_| has_port)
        .and_then(first)
        .map(u16::from_be_bytes);
    Target { kind, to: Destination::Address(to), port }
}

/// The target of a frame that no machine may send.
pub fn of_frame(frame: &Logged<'_>) -> Target {
    let device = first(frame.link_header)
        .map_or(Destination::Unknown, |mac| Destination::Device(Mac::new(mac)));
    let written = frame.link_header.get(12..).and_then(first).map(u16::from_be_bytes);
    let ethertype = written.or(frame.ethertype).unwrap_or_default();
    let plain = |kind| Target { kind, to: device, port: None };
    let address = |bytes: Option<IpAddr>| bytes.map_or(device, Destination::Address);
    if frame.tagged {
        return plain(TargetKind::Vlan);
    }
    match ethertype {
        IPV4 => of_ipv4(frame.payload)
            .map_or_else(|| plain(TargetKind::Ethertype(IPV4)), |(_, target)| target),
        ARP => {
            let asked = frame.payload.get(24..).and_then(first::<4>).map(Ipv4Addr::from);
            Target { to: address(asked.map(IpAddr::V4)), ..plain(TargetKind::Arp) }
        }
        IPV6 => {
            let to = frame.payload.get(24..).and_then(first::<16>).map(Ipv6Addr::from);
            Target { to: address(to.map(IpAddr::V6)), ..plain(TargetKind::Ipv6) }
        }
        VLAN | VLAN_OF_VLANS => plain(TargetKind::Vlan),
        other => plain(TargetKind::Ethertype(other)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
        packet.extend([192, 168, 101, 10, 203, 0, 113, 9]);
        packet.extend([0xc0, 0, 0x1f, 0x90]);
        packet
    }

    fn header(ethertype: u16) -> Vec<u8> {
        let mut header = vec![0xff; 6];
        header.extend([0x52, 0x54, 0, 0, 0, 1]);
        header.extend(ethertype.to_be_bytes());
        header
    }

    #[test]
    fn a_packet_is_read_as_far_as_it_goes() {
        let (source, target) = of_ipv4(&tcp()).unwrap();
        assert_eq!(
            (source, target.to_string().as_str()),
            ([192, 168, 101, 10].into(), "TCP 203.0.113.9 port 8080")
        );
        assert_eq!(of_ipv4(&tcp()[..20]).unwrap().1.port, None, "cut before its port");
        assert_eq!(of_ipv4(&tcp()[..19]), None);
        let mut fragment = tcp();
        fragment[7] = 1;
        assert_eq!(of_ipv4(&fragment).unwrap().1.port, None, "the middle of a packet has no ports");
        let mut options = tcp();
        options[0] = 0x46;
        assert_eq!(
            of_ipv4(&options).unwrap().1.port,
            None,
            "the header is longer than what there is"
        );
        options[0] = 0x44;
        assert_eq!(of_ipv4(&options), None, "a header can't be that short");
    }

    #[test]
    fn a_packet_of_ipv6_is_read_as_far_as_it_goes() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
        packet.extend("fd12::a".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend("2001:db8::9".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend([0xc0, 0, 0x1f, 0x90]);
        let (source, target) = of_ip(&packet).unwrap();
        assert_eq!(
            (source.to_string(), target.to_string()),
            ("fd12::a".into(), "TCP 2001:db8::9 port 8080".into())
        );
        assert_eq!(of_ip(&packet[..41]).unwrap().1.port, None, "cut before its port");
        assert_eq!(of_ip(&packet[..39]), None);
        packet[6] = 58;
        assert_eq!(of_ip(&packet).unwrap().1.to_string(), "ICMP 2001:db8::9");
        packet[6] = 44;
        assert_eq!(of_ip(&packet).unwrap().1.to_string(), "IP protocol 44 2001:db8::9");
        assert_eq!(of_ip(&tcp()).unwrap().0, IpAddr::from([192, 168, 101, 10]));
    }

    #[test]
    fn frames_say_what_they_are() {
        let mut arp = vec![0; 24];
        arp.extend([192, 168, 101, 11]);
        let frame = |ethertype, payload: &[u8], tagged| {
            let link_header = header(ethertype);
            of_frame(&Logged { payload, tagged, link_header: &link_header, ..Logged::default() })
                .to_string()
        };
        assert_eq!(frame(ARP, &arp, false), "ARP 192.168.101.11");
        assert_eq!(frame(IPV4, &tcp(), false), "TCP 203.0.113.9 port 8080");
        assert_eq!(frame(IPV4, &tcp(), true), "VLAN ff:ff:ff:ff:ff:ff");
        assert_eq!(frame(VLAN, &[], false), "VLAN ff:ff:ff:ff:ff:ff");
        assert_eq!(frame(0x88cc, &[], false), "frame 0x88cc ff:ff:ff:ff:ff:ff");
        assert_eq!(frame(IPV6, &[0; 40], false), "IPv6 ::");
        assert_eq!(of_frame(&Logged::default()).to_string(), "frame 0x0000 unknown");
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(
            payload in prop::collection::vec(any::<u8>(), 0..120),
            link_header in prop::collection::vec(any::<u8>(), 0..20),
            ethertype in any::<Option<u16>>(), tagged in any::<bool>(),
        ) {
            let _ = of_ip(&payload);
            let text = of_frame(&Logged { ethertype, tagged, link_header: &link_header,
                payload: &payload, ..Logged::default() });
            prop_assert!(text.to_string().len() <= 80);
        }

        #[test]
        fn every_header_of_a_packet_is_read_without_harm(
            first in 0x40_u8..0x70, middle in prop::collection::vec(any::<u8>(), 19..95),
                cut in 0_usize..96,
        ) {
            let mut packet = vec![first];
            packet.extend(middle);
            packet.truncate(cut);
            let _ = of_ip(&packet);
        }
    }
}
