//! On a bridge of the host: no foreign source, and never a forbidden destination.

use std::net::{IpAddr, Ipv4Addr};

use agentvm_crds::Protocol;
use proptest::prelude::*;

use super::property::{may_reach, packet, with, within};
use super::sample::Sample;
use super::walk::{Packet, Walk, Wire};
use crate::network::Mac;
use crate::network::rules::{nowhere, private};

/// That of the machine on the bridge.
const LEASED: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 40);

/// The machine's own frames, and the names of a neighbour, the gateway, the host and another
/// machine.
fn source() -> impl Strategy<Value = Ipv4Addr> {
    let near = [[10, 1, 2, 41], [10, 1, 2, 1], [10, 1, 2, 9], [192, 168, 101, 10], [255; 4]]
        .map(Ipv4Addr::from);
    prop_oneof![
        Just(LEASED),
        Just(Ipv4Addr::UNSPECIFIED),
        prop::sample::select(near.to_vec()),
        any::<u32>().prop_map(Ipv4Addr::from)
    ]
}

/// The documented behaviour.
fn may_send(sample: &Sample, frame: &Packet) -> bool {
    let to = frame.destination;
    let (has, asks) = (frame.source == LEASED, frame.source == Ipv4Addr::UNSPECIFIED);
    let udp = frame.service == Some(Protocol::Udp);
    let closed =
        [&nowhere(), &sample.deny_list, &sample.host_addresses, &sample.wanted().nets().to_vec()]
            .iter()
            .any(|nets| within(nets, to));
    let client = udp
        && (frame.from_port, frame.port) == (68, 67)
        && to == Ipv4Addr::BROADCAST
        && frame.to_mac == Mac::BROADCAST;
    let server = udp && (frame.from_port == 67 || frame.port == 67);
    let reach =
        || !within(&private(), to) || may_reach(sample, &sample.policies["uid-registry"], frame);
    frame.plain
        && match frame.wire {
            Wire::Arp => has || asks,
            Wire::Ipv4 if client => has || asks,
            Wire::Ipv4 => has && !server && !closed && frame.to_mac != Mac::BROADCAST && reach(),
            Wire::Ipv6 | Wire::Other => false,
        }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_machine_says_what_is_its_own_and_goes_where_it_may(
        packet in packet(),
        wire in prop::sample::select(vec![Wire::Ipv4, Wire::Ipv4, Wire::Ipv4, Wire::Ipv6,
            Wire::Arp, Wire::Other]),
        source in source(),
        plain in prop::bool::weighted(0.9),
        to_all: bool,
        dhcp in prop::bool::weighted(0.2),
        dual: bool,
    ) {
        let sample = with(vec![], dual);
        let walk = Walk::new(&sample.wanted());
        let nic = &sample.links[3].nic;
        // A frame with IPv6 addresses is an IPv6 frame.
        let (wire, source) = if packet.wire == Wire::Ipv6 { (Wire::Ipv6,
            packet.source) } else { (wire, source.into()) };
        let mut frame = Packet { from: nic.tap.clone(), from_mac: nic.mac, arp_mac: nic.mac, wire,
            source, plain, ..packet };
        if to_all {
            frame.to_mac = Mac::BROADCAST;
        }
        if dhcp {
            frame = Packet { service: Some(Protocol::Udp), from_port: 68, port: 67, ..frame };
        }
        if dhcp && to_all && wire != Wire::Ipv6 {
            frame.destination = Ipv4Addr::BROADCAST.into();
        }
        let passes = |frame: &Packet| walk.passes(&walk.bridge, "prerouting", frame);
        prop_assert_eq!(passes(&frame), may_send(&sample, &frame), "{:?}", frame);
        let spoofed = Packet { from_mac: sample.links[0].nic.mac, ..frame.clone() };
        prop_assert!(!passes(&spoofed), "another's MAC");
        let claimed = Packet { arp_mac: sample.links[0].nic.mac, ..frame.clone() };
        let client = frame.service == Some(Protocol::Udp) && frame.port == 67;
        prop_assert!(!(wire == Wire::Arp || client) || !passes(&claimed),
            "another's MAC, in what it says");
        prop_assert!(!walk.passes(&walk.bridge, "input", &frame),
            "the host is not part of that bridge");
        let server = Packet { from_port: 67, port: 68, service: Some(Protocol::Udp), ..frame };
        prop_assert!(wire == Wire::Arp || !passes(&server), "no one offers addresses");
    }

    #[test]
    fn who_was_given_no_address_only_asks_for_one(packet in packet(), source in source(),
        arp: bool) {
        let mut sample = with(vec![], false);
        sample.leases.clear();
        let walk = Walk::new(&sample.wanted());
        let nic = &sample.links[3].nic;
        let wire = if arp { Wire::Arp } else { Wire::Ipv4 };
        let source = IpAddr::from(source);
        let frame = Packet { from: nic.tap.clone(), from_mac: nic.mac, arp_mac: nic.mac, wire,
            source, ..packet };
        prop_assert_eq!(walk.passes(&walk.bridge, "prerouting", &frame),
            arp && source == Ipv4Addr::UNSPECIFIED);
    }
}
