//! Whatever a policy says and a machine sends: what nobody may reach isn't reached, and nobody else is touched.

use std::net::Ipv4Addr;

use agentvm_crds::Protocol;
use ipnet::Ipv4Net;
use proptest::prelude::*;

use super::sample::Sample;
use super::walk::{ALL, Packet, Walk, Wire};
use crate::network::rules::{DEFAULT_PORTS, nowhere, private};
use crate::network::{Allow, Mac, Policy, PortRange};

/// Addresses near the edges of what matters, and any other.
fn address() -> impl Strategy<Value = Ipv4Addr> {
    let edges = nowhere().into_iter().chain(private()).chain(
        ["198.51.100.17/32", "10.96.0.0/12", "192.168.101.0/24", "203.0.113.0/24"].map(|net| net.parse().unwrap()),
    );
    let edges: Vec<u32> = edges
        .flat_map(|net: Ipv4Net| {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            [first.wrapping_sub(1), first, first / 2 + last / 2, last, last.wrapping_add(1)]
        })
        .collect();
    prop_oneof![prop::sample::select(edges), any::<u32>()].prop_map(Ipv4Addr::from)
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Icmp])
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![prop::sample::select(vec![0, 22, 52, 53, 54, 67, 68, 80, 443, 8080, 9418, 65_535]), any::<u16>()]
}

fn allow() -> impl Strategy<Value = Allow> {
    let net = (address(), prop::sample::select(vec![0_u8, 1, 7, 8, 9, 12, 16, 24, 31, 32]))
        .prop_map(|(address, prefix)| Ipv4Net::new(address, prefix).unwrap().trunc());
    let range = port().prop_map(|port| PortRange { first: port, last: port });
    (protocol(), prop::collection::vec(range, 0..3), prop::collection::vec(net, 0..3)).prop_map(
        |(protocol, ports, cidrs)| {
            let ports = if protocol == Protocol::Icmp { Vec::new() } else { ports };
            Allow { protocol, ports, cidrs }
        },
    )
}

fn packet() -> impl Strategy<Value = Packet> {
    (address(), protocol(), port(), port(), any::<bool>()).prop_map(|(destination, service, port, from_port, known)| {
        let sample = Sample::new();
        let nic = &sample.links[0].nic;
        Packet {
            from: sample.subnet.bridge.clone(),
            to: "uplink".to_owned(),
            wire: Wire::Ipv4,
            from_mac: nic.mac,
            to_mac: sample.wanted().gateway_mac,
            arp_mac: nic.mac,
            source: nic.address().unwrap(),
            destination,
            service: Some(service),
            port,
            from_port,
            plain: true,
            unicast: true,
            redirected: false,
            known,
            answer: false,
        }
    })
}

fn with(allow: Vec<Allow>) -> Sample {
    let mut sample = Sample::new();
    let policy = Policy { allow, ..sample.policies["uid-default"].clone() };
    sample.policies.insert("uid-default".to_owned(), policy);
    sample
}

fn within(nets: &[Ipv4Net], address: Ipv4Addr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

/// What the documentation says, written another way than the rules are.
fn may_reach(sample: &Sample, policy: &Policy, packet: &Packet) -> bool {
    let to = packet.destination;
    if within(&nowhere(), to) || within(&sample.never, to) || sample.subnet.net().contains(&to) {
        return false;
    }
    let streams = packet.service != Some(Protocol::Icmp);
    let asks_resolver = streams && packet.port == 53 && policy.resolvers.contains(&to);
    let is_private = within(&private(), to);
    let default = match packet.service {
        Some(Protocol::Tcp) => DEFAULT_PORTS.contains(&packet.port),
        Some(Protocol::Udp) | None => false,
        Some(Protocol::Icmp) => true,
    };
    let listed = policy.allow.iter().any(|allow| {
        let port = match allow.ports.as_slice() {
            [] => packet.port != 53 || !streams,
            ports => ports.iter().any(|range| range.first == packet.port),
        };
        // In a private range, the network that was written lies in it as a whole.
        let named =
            |net: &Ipv4Net| net.contains(&to) && (!is_private || private().iter().any(|range| range.contains(net)));
        let place = if allow.cidrs.is_empty() { !is_private } else { allow.cidrs.iter().any(named) };
        packet.service == Some(allow.protocol) && port && place
    });
    asks_resolver || (default && !is_private) || listed
}

proptest! {
    // Each case makes a whole rule set.
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_machine_reaches_what_its_policy_says_and_nothing_else(
        allow in prop::collection::vec(allow(), 0..4),
        packets in prop::collection::vec(packet(), 16),
    ) {
        let sample = with(allow);
        let walk = Walk::new(&sample.wanted());
        for packet in packets {
            let reached = walk.passes(&walk.inet, "forward", &packet);
            prop_assert_eq!(reached, may_reach(&sample, &sample.policies["uid-default"], &packet), "{:?}", packet);
            prop_assert!(!walk.passes(&walk.inet, "input", &packet), "no address of the host is reached");
            let back = Packet { to: sample.subnet.bridge.clone(), ..packet.clone() };
            prop_assert!(!walk.passes(&walk.inet, "forward", &back), "nor a machine, over the router");
            for odd in [Packet { redirected: true, ..packet.clone() }, Packet { unicast: false, ..packet.clone() }] {
                prop_assert!(!walk.passes(&walk.inet, "forward", &odd), "nor what isn't what it was sent to");
            }
            let stranger = Packet { source: Ipv4Addr::new(192, 168, 101, 77), ..packet.clone() };
            prop_assert!(!walk.passes(&walk.inet, "forward", &stranger), "a machine whose link isn't open reaches nothing");
            let lawless = Packet { source: Ipv4Addr::new(192, 168, 101, 12), ..packet };
            prop_assert!(!walk.passes(&walk.inet, "forward", &lawless), "nor does one without a policy");
        }
    }

    #[test]
    fn nothing_begins_towards_a_machine(packet in packet(), answer in any::<bool>()) {
        let sample = Sample::new();
        let walk = Walk::new(&sample.wanted());
        let machine = Packet {
            from: "uplink".to_owned(),
            to: sample.subnet.bridge.clone(),
            source: packet.destination,
            destination: packet.source,
            answer,
            ..packet
        };
        prop_assert_eq!(walk.passes(&walk.inet, "forward", &machine), answer);
        prop_assert!(!walk.passes(&walk.inet, "output", &machine));
        let closed = Packet { destination: Ipv4Addr::new(192, 168, 101, 77), ..machine };
        prop_assert!(!walk.passes(&walk.inet, "forward", &closed));
    }

    #[test]
    fn what_is_not_ours_is_let_through(
        packet in packet(),
        from in prop::sample::select(vec!["eth0", "lo", "docker0", "avm0a1c-10", "avmb0a1b2c3d", "agentvm01"]),
        to in prop::sample::select(vec!["eth1", "lo", "virbr0", "avm0a1-10", "agentvm"]),
        wire in prop::sample::select(vec![Wire::Ipv4, Wire::Arp, Wire::Other]),
    ) {
        let sample = Sample::new();
        let walk = Walk::new(&sample.wanted());
        let packet = Packet { from: from.to_owned(), to: to.to_owned(), wire, ..packet };
        for hook in ["prerouting", "input", "forward", "output", "postrouting"] {
            prop_assert!(walk.passes(&walk.bridge, hook, &packet), "bridge {hook}");
            prop_assert!(walk.passes(&walk.inet, hook, &packet), "inet {hook}");
        }
    }

    #[test]
    fn a_frame_is_the_machines_own_or_dropped(
        packet in packet(),
        wire in prop::sample::select(vec![Wire::Ipv4, Wire::Arp, Wire::Other]),
        wrong in prop::collection::vec(any::<bool>(), 7),
    ) {
        let sample = Sample::new();
        let walk = Walk::new(&sample.wanted());
        let (own, other) = (&sample.links[0].nic, &sample.links[1].nic);
        let pick = |at: usize, right: Mac, not: Mac| if wrong[at] { not } else { right };
        let frame = Packet {
            from: if wrong[0] { other.tap.clone() } else { own.tap.clone() },
            wire,
            from_mac: pick(1, own.mac, other.mac),
            arp_mac: pick(2, own.mac, other.mac),
            to_mac: pick(3, sample.wanted().gateway_mac, Mac::new(ALL)),
            source: if wrong[4] { other.address().unwrap() } else { packet.source },
            destination: if wrong[5] { packet.destination } else { sample.subnet.gateway },
            plain: !wrong[6],
            ..packet
        };
        // All of it another machine's own frame, told by its tap, is a right frame too.
        let one = |list: &[bool]| list.iter().all(|at| !at) || list.iter().all(|at| *at);
        let right = match wire {
            Wire::Ipv4 => one(&[wrong[0], wrong[1], wrong[4]]) && !wrong[3] && !wrong[6],
            Wire::Arp => {
                one(&[wrong[0], wrong[1], wrong[2], wrong[4]]) && frame.destination == sample.subnet.gateway && !wrong[6]
            }
            Wire::Other => false,
        };
        prop_assert_eq!(walk.passes(&walk.bridge, "prerouting", &frame), right, "{:?}", frame);
        let closed = Packet { from: "avm0a1b-77".to_owned(), ..frame };
        prop_assert!(!walk.passes(&walk.bridge, "prerouting", &closed));
    }

    #[test]
    fn on_a_bridge_of_the_host_nobody_reaches_what_is_never_reachable(
        packet in packet(),
        wire in prop::sample::select(vec![Wire::Ipv4, Wire::Arp, Wire::Other]),
    ) {
        let sample = Sample::new();
        let walk = Walk::new(&sample.wanted());
        let nic = &sample.links[3].nic;
        let frame = Packet { from: nic.tap.clone(), from_mac: nic.mac, arp_mac: nic.mac, wire, ..packet };
        let to = frame.destination;
        let closed = within(&nowhere(), to) || within(&sample.never, to) || sample.subnet.net().contains(&to);
        let passes = walk.passes(&walk.bridge, "prerouting", &frame);
        let asks_address = frame.service == Some(Protocol::Udp) && (frame.from_port, frame.port) == (68, 67);
        if wire == Wire::Other || (wire == Wire::Ipv4 && closed && !asks_address) {
            prop_assert!(!passes, "{:?}", frame);
        }
        if wire == Wire::Ipv4 && within(&private(), to) && passes && !asks_address {
            prop_assert!(may_reach(&sample, &sample.policies["uid-registry"], &frame), "{:?}", frame);
        }
        let spoofed = Packet { from_mac: sample.links[0].nic.mac, ..frame.clone() };
        prop_assert!(!walk.passes(&walk.bridge, "prerouting", &spoofed));
        prop_assert!(!walk.passes(&walk.bridge, "input", &frame), "the host is not part of that bridge");
        let server = Packet { from_port: 67, port: 68, wire: Wire::Ipv4, service: Some(Protocol::Udp), ..frame };
        prop_assert!(!walk.passes(&walk.bridge, "prerouting", &server), "no one offers addresses");
    }
}
