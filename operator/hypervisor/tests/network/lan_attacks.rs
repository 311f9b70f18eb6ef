//! The escape table of machines on a bridge of the host: a foreign network, with the host on it. It
//! is like `attacks.rs`, but the way to the internet leads over that network's own router, on any
//! port.

use std::collections::BTreeSet;
use std::process::Command;

use crate::attacks::not_reached;
use crate::frames::marks;
use crate::ground::{Ground, Machine, host_addresses};
use crate::lab::ip;
use crate::lan::{HOST_MAC, Lan, NEAR_MAC, ROUTER_MAC};
use crate::spy::Spy;
use agentvm_testing::networks::internet::{NODE, PORTS, PRIVATE, PRIVATE_V6};
use agentvm_testing::wait_until;

/// The frames that are tried, by the beginning of their marks. The threat model lists them; each
/// kind occurs at least once.
const KINDS: &str = "spoof-ip- spoof-mac- spoof-both group- stp- arp- rarp broadcast multicast- \
    igmp dhcp- ipv6-rogue- vlan ethertype- \
    fragment- source-route to- private- layer2- web-by- claim- place- lease- host- near- \
    near-vlan near-querier router-near";
/// The permitted frames: to the internet, which has no port rules here …
const FOR_THE_ROUTER: [&str; 9] = [
    "control",
    "proto-",
    "port-",
    "six-in-four",
    "icmp-timestamp",
    "icmp-mask",
    "icmp-router",
    "icmp-reply",
    "icmp-redirect",
];
/// … and broadcast questions, but not to other machines.
const FOR_ALL: [&str; 3] = ["arp-who-has-neighbour", "arp-probe", "question-own"];

pub async fn prepare(ground: &Ground<'_>, machine: &mut impl Machine) {
    ground.put(machine, "connects.py", include_str!("connects.py")).await;
    let (functions, _) = include_str!("frames.py").split_once("\n# What is permitted").unwrap();
    ground.put(machine, "frames.py", &[functions, include_str!("frames_lan.py")].concat()).await;
    ground.put(machine, "framing.py", &[functions, "\nframing()\n"].concat()).await;
}

/// The machine reaches no private, unassigned or configured address, and nothing on that network:
/// no name server, no other computer, no router.
pub async fn reaches_nothing_private(
    lan: &Lan<'_>,
    ground: &Ground<'_>,
    machine: &mut impl Machine,
) {
    never(lan, ground, machine, &[lan.near, lan.subnet.gateway]).await;
    assert_eq!(lan.heard_beside(), Vec::<String>::new());
}

/// Destinations that no policy opens, or that this policy does not open; `besides` adds some.
pub async fn never(
    lan: &Lan<'_>,
    ground: &Ground<'_>,
    machine: &mut impl Machine,
    besides: &[std::net::Ipv4Addr],
) {
    ground.internet.seen.forget();
    let addresses: Vec<_> = PRIVATE.iter().chain([&NODE]).chain(besides).collect();
    let mut what = vec![format!("tcp:{PRIVATE_V6}:80")];
    for address in &addresses {
        what.extend(PORTS.map(|port| format!("tcp:{address}:{port}")));
        what.extend([
            format!("ping:{address}"),
            format!("dns:web.test@{address}"),
            format!("udp:{address}:67"),
        ]);
    }
    not_reached(ground, machine, &what).await;
    for address in addresses.into_iter().filter(|address| **address != lan.near) {
        assert_eq!(ground.internet.seen.to(*address), 0, "{address}");
    }
}

/// Frames made by hand: no other machine sees one, the host takes none, and that network sees only
/// permitted frames.
pub async fn sends_no_frame(lan: &Lan<'_>, ground: &Ground<'_>, machine: &mut impl Machine) {
    let spy = Spy::new(&ground.salt());
    let hosts: Vec<String> = host_addresses()
        .iter()
        .filter(|address| !lan.net().contains(*address))
        .map(ToString::to_string)
        .collect();
    let said = machine
        .sh(&format!(
            "python3 /tmp/frames.py {} lan_host={} lan_host_mac={HOST_MAC} near={} \
                near_mac={NEAR_MAC} hosts={}",
            ground.frames(),
            lan.host,
            lan.near,
            hosts.join(",")
        ))
        .await;
    let sent = marks(&said, KINDS);
    for control in ["control", "question-own", "control-end"] {
        spy.until(control, &lan.to_router());
    }
    // The last one is out, so the others have had their chance.
    for mark in &sent {
        spy.until(mark, &ground.own.tap);
    }
    let at = |link: &str, way: &str| (link.to_owned(), way.to_owned());
    let mut escaped = Vec::new();
    for (mark, links) in &spy.seen() {
        let begins = |names: &[&str]| names.iter().any(|name| mark.starts_with(name));
        let mut allowed = BTreeSet::from([at(&ground.own.tap, "in")]);
        if begins(&FOR_THE_ROUTER) || begins(&FOR_ALL) {
            allowed.insert(at(&lan.to_router(), "out"));
            // A router that cannot deliver a packet says so, and quotes it.
            allowed.extend([at(&lan.to_router(), "in"), at(&ground.own.tap, "out")]);
        }
        if begins(&FOR_ALL) {
            allowed.insert(at(&lan.to_near(), "out"));
        }
        escaped.extend(links.difference(&allowed).map(|at| (mark.clone(), at.clone())));
    }
    println!("frames: {} kinds tried", sent.len());
    assert!(escaped.is_empty(), "these came through: {escaped:#?}");
}

/// After all of these frames, every member of that network has right beliefs about the others, and
/// the bridge sends the attacker nothing of theirs.
pub fn took_nobodys_place(lan: &Lan<'_>, ground: &Ground<'_>) {
    let bridge = &lan.subnet.bridge;
    let shown = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let learnt = shown("bridge", &["fdb", "show", "dev", &ground.own.tap]);
    let own = ground.own.mac.to_string();
    let theirs = [ROUTER_MAC, HOST_MAC, NEAR_MAC].map(str::to_owned).into_iter();
    for mac in theirs.chain(ground.others.iter().map(|nic| nic.mac.to_string())) {
        assert!(!learnt.contains(&mac), "frames for {mac} go to the attacker now:\n{learnt}");
    }
    let [near, router] = lan.believed();
    let host = shown("ip", &["-4", "neigh", "show", "dev", bridge]);
    for (who, knows, others) in [
        ("the computer beside", &near, [(lan.subnet.gateway, ROUTER_MAC), (lan.host, HOST_MAC)]),
        ("the router", &router, [(lan.near, NEAR_MAC), (lan.host, HOST_MAC)]),
        ("the host", &host, [(lan.subnet.gateway, ROUTER_MAC), (lan.near, NEAR_MAC)]),
    ] {
        for (address, mac) in others {
            let knows_it =
                |line: &str| line.starts_with(&format!("{address} ")) && line.contains(mac);
            assert!(knows.lines().any(knows_it), "{who} knows {address} no more:\n{knows}");
        }
        let mine = format!("{} ", ground.own.address().unwrap());
        for line in knows.lines().filter(|line| line.contains(&own)) {
            assert!(line.starts_with(&mine), "{who} believes: {line}");
        }
    }
}

/// The sender for [`becomes_no_root`]: it repeats, as bridges do.
pub fn bpdus(ground: &Ground<'_>) -> String {
    format!("for again in $(seq 100); do python3 /tmp/framing.py {}; done", ground.frames())
}

/// A bridge that speaks STP believes STP frames before any rule sees them. Therefore a sender of
/// them, like [`bpdus`], is cut off.
pub fn becomes_no_root(lan: &Lan<'_>, ground: &Ground<'_>) {
    let bridge = &lan.subnet.bridge;
    let of = |file: String| {
        std::fs::read_to_string(format!("/sys/class/net/{file}")).unwrap().trim().to_owned()
    };
    ip(&format!("link set {bridge} type bridge stp_state 1"));
    wait_until("its port to be switched off", || {
        of(format!("{}/brport/state", ground.own.tap)) == "0"
    });
    assert_eq!(of(format!("{bridge}/bridge/root_id")), of(format!("{bridge}/bridge/bridge_id")));
}
