//! For any policy and any packet of a machine: forbidden destinations are not reached, and no other
//! machine is affected.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agentvm_crds::Protocol;
use agentvm_types::OwnerUid;
use ipnet::IpNet;
use proptest::prelude::*;

use super::sample::Sample;
use super::walk::{ALL, Packet, Walk, Wire};
use crate::network::DEFAULT_PORTS;
use crate::network::rules::{Connection, lets_through, nowhere, private};
use crate::network::{Allow, Mac, Policy, PortRange};

/// Addresses near the edges of the ranges, and arbitrary ones.
fn address() -> impl Strategy<Value = IpAddr> {
    let sample = Sample::dual();
    let edges = nowhere()
        .into_iter()
        .chain(private())
        .chain(sample.deny_list.iter().copied())
        .chain(sample.wanted().nets());
    let edges = edges.chain(
        ["203.0.113.0/24", "2000::/3", "2001:db8:7::/48", "fd99::/64"]
            .map(|net| net.parse().unwrap()),
    );
    let edges: Vec<IpAddr> = edges.flat_map(|net| around(&net)).collect();
    let any = (any::<bool>(), any::<u32>(), any::<u128>()).prop_map(|(six, four, bits)| {
        if six {
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        } else {
            IpAddr::V4(Ipv4Addr::from_bits(four))
        }
    });
    prop_oneof![prop::sample::select(edges), any]
}

fn around(net: &IpNet) -> Vec<IpAddr> {
    match (net.network(), net.broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (first, last) = (first.to_bits(), last.to_bits());
            let near =
                [first.wrapping_sub(1), first, first / 2 + last / 2, last, last.wrapping_add(1)];
            near.map(|bits| Ipv4Addr::from_bits(bits).into()).to_vec()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let (first, last) = (first.to_bits(), last.to_bits());
            let near =
                [first.wrapping_sub(1), first, first / 2 + last / 2, last, last.wrapping_add(1)];
            near.map(|bits| Ipv6Addr::from_bits(bits).into()).to_vec()
        }
        _ => Vec::new(),
    }
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Icmp])
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        prop::sample::select(vec![0, 22, 52, 53, 54, 67, 68, 80, 443, 8080, 9418, 65_535]),
        any::<u16>()
    ]
}

fn allow() -> impl Strategy<Value = Allow> {
    let prefixes = vec![0_u8, 1, 3, 7, 8, 9, 12, 16, 24, 31, 32, 48, 64, 128];
    let net = (address(), prop::sample::select(prefixes)).prop_map(|(address, prefix)| {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, prefix.min(longest)).unwrap().trunc()
    });
    let range = port().prop_map(|port| PortRange { first: port, last: port });
    (protocol(), prop::collection::vec(range, 0..3), prop::collection::vec(net, 0..3)).prop_map(
        |(protocol, ports, cidrs)| {
            let ports = if protocol == Protocol::Icmp { Vec::new() } else { ports };
            Allow { protocol, ports, cidrs }
        },
    )
}

pub fn packet() -> impl Strategy<Value = Packet> {
    (address(), protocol(), port(), port(), any::<bool>()).prop_map(
        |(destination, service, port, from_port, known)| {
            let sample = Sample::dual();
            let nic = &sample.links[0].nic;
            let source: (IpAddr, Wire) = match destination {
                IpAddr::V4(_) => (nic.address().unwrap().into(), Wire::Ipv4),
                IpAddr::V6(_) => (nic.ipv6().unwrap().into(), Wire::Ipv6),
            };
            Packet {
                from: sample.subnet.bridge.clone(),
                to: "uplink".to_owned(),
                wire: source.1,
                from_mac: nic.mac,
                to_mac: sample.wanted().gateway_mac,
                arp_mac: nic.mac,
                source: source.0,
                destination,
                service: Some(service),
                port,
                from_port,
                plain: true,
                neighbourly: false,
                unicast: true,
                user: None,
                redirected: false,
                known,
                answer: false,
            }
        },
    )
}

pub fn with(allow: Vec<Allow>, dual: bool) -> Sample {
    let mut sample = if dual { Sample::dual() } else { Sample::new() };
    let policy = Policy { allow, ..sample.policies["uid-default"].clone() };
    sample.policies.insert(OwnerUid::new("uid-default"), policy);
    sample
}

/// The address of this version, of a machine's two.
fn address_of(machine: usize, like: IpAddr) -> IpAddr {
    let nic = &Sample::dual().links[machine].nic;
    if like.is_ipv4() { nic.address().unwrap().into() } else { nic.ipv6().unwrap().into() }
}

/// No machine's address, where machines have theirs.
fn nobody(like: IpAddr) -> IpAddr {
    let [four, six] = Sample::dual().wanted().nets();
    let net = if like.is_ipv4() { four } else { six };
    net.hosts().nth(77).unwrap()
}

pub fn within(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

/// The documented behaviour, written in another way than the rules.
pub fn may_reach(sample: &Sample, policy: &Policy, packet: &Packet) -> bool {
    let to = packet.destination;
    if within(&nowhere(), to)
        || within(&sample.deny_list, to)
        || within(&sample.wanted().nets(), to)
    {
        return false;
    }
    if to.is_ipv6() && !policy.ipv6 {
        return false;
    }
    let streams = packet.service != Some(Protocol::Icmp);
    let asks_resolver =
        streams && packet.port == 53 && policy.resolvers.iter().any(|resolver| to == *resolver);
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
        let named = |net: &IpNet| {
            net.contains(&to) && (!is_private || private().iter().any(|range| range.contains(net)))
        };
        let place =
            if allow.cidrs.is_empty() { !is_private } else { allow.cidrs.iter().any(named) };
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
        dual: bool,
    ) {
        let sample = with(allow, dual);
        let walk = Walk::new(&sample.wanted());
        for packet in packets {
            let reached = walk.passes(&walk.inet, "forward", &packet);
            let policy = &sample.policies["uid-default"];
            prop_assert_eq!(reached, may_reach(&sample, policy, &packet), "{:?}", packet);
            let connection = Connection { protocol: packet.service.unwrap(),
                to: packet.destination, port: packet.port };
            let never: Vec<IpNet> = sample.deny_list.iter().copied().chain(sample.wanted().nets())
                .collect();
            prop_assert_eq!(reached, lets_through(policy, &never, &connection),
                "what is said another way, {:?}", packet);
            prop_assert!(!walk.passes(&walk.inet, "input", &packet),
                "no address of the host is reached");
            let back = Packet { to: sample.subnet.bridge.clone(), ..packet.clone() };
            prop_assert!(!walk.passes(&walk.inet, "forward", &back),
                "nor a machine, over the router");
            for odd in [Packet { redirected: true, ..packet.clone() }, Packet { unicast: false,
                ..packet.clone() }] {
                prop_assert!(!walk.passes(&walk.inet, "forward", &odd),
                    "nor what isn't what it was sent to");
            }
            let other = |machine| address_of(machine, packet.destination);
            let stranger = Packet { source: nobody(packet.destination), ..packet.clone() };
            prop_assert!(!walk.passes(&walk.inet, "forward", &stranger),
                "a machine whose link isn't open reaches nothing");
            let lawless = Packet { source: other(2), ..packet.clone() };
            prop_assert!(!walk.passes(&walk.inet, "forward", &lawless),
                "nor does one without a policy");
            let elsewhere = Packet { source: other(1), ..packet };
            let policy = &sample.policies["uid-registry"];
            prop_assert_eq!(walk.passes(&walk.inet, "forward", &elsewhere), may_reach(&sample,
                policy, &elsewhere));
        }
    }

    #[test]
    fn nothing_begins_towards_a_machine(packet in packet(), answer in any::<bool>(), dual: bool) {
        let sample = with(vec![], dual);
        let walk = Walk::new(&sample.wanted());
        let machine = Packet {
            from: "uplink".to_owned(),
            to: sample.subnet.bridge.clone(),
            source: packet.destination,
            destination: packet.source,
            answer,
            ..packet.clone()
        };
        let has_it = dual || packet.source.is_ipv4();
        prop_assert_eq!(walk.passes(&walk.inet, "forward", &machine), answer && has_it);
        prop_assert!(!walk.passes(&walk.inet, "output", &machine));
        let closed = Packet { destination: nobody(packet.source), ..machine };
        prop_assert!(!walk.passes(&walk.inet, "forward", &closed));
    }

    #[test]
    fn what_is_not_ours_is_let_through(
        packet in packet(),
        from in prop::sample::select(vec!["eth0", "lo", "docker0", "avm0a1c-10", "avmb0a1b2c3d",
            "agentvm01"]),
        to in prop::sample::select(vec!["eth1", "lo", "virbr0", "avm0a1-10", "agentvm"]),
        wire in prop::sample::select(vec![Wire::Ipv4, Wire::Ipv6, Wire::Arp, Wire::Other]),
        user in prop::sample::select(vec![None, Some(0), Some(64_055), Some(2_099_999_999),
            Some(2_100_065_536)]),
        dual: bool,
    ) {
        let sample = with(vec![], dual);
        let walk = Walk::new(&sample.wanted());
        let packet = Packet { from: from.to_owned(), to: to.to_owned(), wire, user, ..packet };
        for hook in ["prerouting", "input", "forward", "output", "postrouting"] {
            prop_assert!(walk.passes(&walk.bridge, hook, &packet), "bridge {hook}");
            prop_assert!(walk.passes(&walk.inet, hook, &packet), "inet {hook}");
        }
    }

    #[test]
    fn what_a_qemu_sends_itself_goes_nowhere(
        packet in packet(),
        to in prop::sample::select(vec!["lo", "eth0", "agentvm0", "docker0"]),
        user in 2_100_000_000_u32..=2_100_065_535,
        dual: bool,
    ) {
        let mut sample = with(vec![], dual);
        let packet = Packet { to: to.to_owned(), user: Some(user), ..packet };
        let leaves = |walk: &Walk| walk.passes(&walk.inet, "output", &packet);
        prop_assert!(!leaves(&Walk::new(&sample.wanted())));
        sample.policies.clear();
        prop_assert!(!leaves(&Walk::new(&sample.wanted())), "without any policy too");
    }

    #[test]
    fn a_frame_is_the_machines_own_or_dropped(
        packet in packet(),
        wire in prop::sample::select(vec![Wire::Ipv4, Wire::Ipv6, Wire::Arp, Wire::Other]),
        wrong in prop::collection::vec(any::<bool>(), 8),
        dual: bool,
    ) {
        let sample = with(vec![], dual);
        let walk = Walk::new(&sample.wanted());
        let (own, other) = (&sample.links[0].nic, &sample.links[1].nic);
        let pick = |at: usize, right: Mac, not: Mac| if wrong[at] { not } else { right };
        // The version that the frame claims.
        let like: IpAddr = if wire == Wire::Ipv6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let frame = Packet {
            from: if wrong[0] { other.tap.clone() } else { own.tap.clone() },
            wire,
            from_mac: pick(1, own.mac, other.mac),
            arp_mac: pick(2, own.mac, other.mac),
            to_mac: pick(3, sample.wanted().gateway_mac, Mac::new(ALL)),
            source: address_of(usize::from(wrong[4]), like),
            destination: if wrong[5] { packet.destination } else { sample.subnet.gateway.into() },
            plain: !wrong[6],
            neighbourly: wrong[7],
            ..packet
        };
        // All of it another machine's own frame, told by its tap, is a right frame too.
        let one = |list: &[bool]| list.iter().all(|at| !at) || list.iter().all(|at| *at);
        let ip = one(&[wrong[0], wrong[1], wrong[4]]) && !wrong[3] && !wrong[6];
        let right = match wire {
            Wire::Ipv4 => ip,
            Wire::Ipv6 => dual && ip && !wrong[7],
            Wire::Arp => {
                one(&[wrong[0], wrong[1], wrong[2],
                    wrong[4]]) && frame.destination == sample.subnet.gateway && !wrong[6]
            }
            Wire::Other => false,
        };
        prop_assert_eq!(walk.passes(&walk.bridge, "prerouting", &frame), right, "{:?}", frame);
        let closed = Packet { from: "avm0a1b-77".to_owned(), ..frame };
        prop_assert!(!walk.passes(&walk.bridge, "prerouting", &closed));
    }

    #[test]
    fn a_machine_hears_what_its_pool_has(
        packet in packet(),
        wire in prop::sample::select(vec![Wire::Ipv4, Wire::Ipv6, Wire::Arp, Wire::Other]),
        machine in 0_usize..2, dual: bool,
    ) {
        let sample = with(vec![], dual);
        let walk = Walk::new(&sample.wanted());
        let link = &sample.links[machine];
        let frame = Packet { to: link.nic.tap.clone(), from: "uplink".to_owned(), wire, ..packet };
        let heard = match wire {
            Wire::Ipv4 | Wire::Arp => true,
            Wire::Ipv6 => sample.policies[&link.owner_uid].ipv6,
            Wire::Other => false,
        };
        prop_assert_eq!(walk.passes(&walk.bridge, "postrouting", &frame), heard);
    }
}
