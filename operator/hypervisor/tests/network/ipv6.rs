//! The escape table of IPv6: the attempts of a machine that has IPv6. It is like `attacks.rs`.

use std::process::Command;

use crate::attacks::{frames_sent, not_reached, reaches_no_port};
use crate::frames;
use crate::ground::{Ground, Machine, PATIENT, host_addresses_of_ipv6};
use agentvm_testing::networks::internet::{
    ICMP_V6, Kind, NODE_V6, NOWHERE_V6, PORTS, PRIVATE_V6, TCP, WEB_V6,
};

/// A ping.
const ECHO: u16 = 128;
/// The frames that are tried, by the beginning of their marks. The threat model lists them; each
/// kind occurs at least once.
const KINDS: &str = "spoof- spoof-mac- nd- router- redirect- dhcp- group- name-query multicast- \
    header- fragment- proto- \
    four-in-six six-in-six to- port- icmp- layer2- routed-to-";
/// These of them are well-formed: the bridge hands them to the host, which has to refuse them.
const FOR_THE_ROUTER: [&str; 4] = ["routed-to-", "to-", "port-", "icmp-"];

pub async fn prepare(ground: &Ground<'_>, machine: &mut impl Machine) {
    ground.put(machine, "connects.py", include_str!("connects.py")).await;
    ground.put(machine, "frames6.py", include_str!("frames6.py")).await;
}

/// The machine reaches the internet by IPv6, as it does by IPv4.
pub async fn reaches_the_internet(ground: &Ground<'_>, machine: &mut impl Machine) {
    let mut what: Vec<String> =
        [80, 443, 9418].iter().map(|port| format!("tcp:{WEB_V6}:{port}")).collect();
    what.push(format!("ping:{WEB_V6}"));
    for (what, came) in ground.reach(machine, PATIENT, &what).await {
        assert_eq!(came, "ok", "{what}");
    }
    for (protocol, port) in [(TCP, 80), (TCP, 443), (TCP, 9418), (ICMP_V6, ECHO)] {
        assert!(ground.internet.seen.until(protocol, WEB_V6, port), "{protocol} {port}");
    }
}

/// The internet sees only packets that the policy permits.
pub async fn reaches_nothing_else(ground: &Ground<'_>, machine: &mut impl Machine) {
    ground.internet.seen.forget();
    let mut what =
        vec![format!("tcp:{WEB_V6}:8080"), format!("tcp:{WEB_V6}:25"), format!("udp:{WEB_V6}:53")];
    for address in
        NOWHERE_V6.into_iter().chain([PRIVATE_V6]).map(str::to_owned).chain([NODE_V6.to_string()])
    {
        what.extend(PORTS.map(|port| format!("tcp:{address}:{port}")));
        what.extend([format!("ping:{address}"), format!("udp:{address}:53")]);
    }
    not_reached(ground, machine, &what).await;
    let seen = ground.internet.seen.all();
    // The kernels at both ends of that wire look for each other, and none of them pings.
    let ordinary = |(protocol, to, kind): &&Kind| {
        to.to_string().starts_with("ff02:") || (*protocol == ICMP_V6 && *kind != ECHO)
    };
    let unwanted: Vec<_> = seen.keys().filter(|kind| !ordinary(kind)).collect();
    assert!(unwanted.is_empty(), "these arrived: {unwanted:?}");
}

/// The machine reaches no address of the host on any port that listens, also none of the wire
/// itself; returns the number of attempts.
pub async fn reaches_no_host(ground: &Ground<'_>, machine: &mut impl Machine) -> usize {
    let addresses = host_addresses_of_ipv6();
    let (_, gateway) = agentvm_core::network::Nic::around(ground.own.ipv6().unwrap());
    assert!(addresses.contains(&gateway), "{addresses:?}");
    reaches_no_port(ground, machine, addresses).await
}

/// Not even that another machine is there.
pub async fn reaches_no_machine(ground: &Ground<'_>, machine: &mut impl Machine) {
    let addresses = ground.others.iter().filter_map(agentvm_core::network::Nic::ipv6);
    let tries = |address| {
        [22, 80, 443, 8000]
            .map(|port| format!("tcp:{address}:{port}"))
            .into_iter()
            .chain([format!("ping:{address}")])
    };
    let what: Vec<String> = addresses.flat_map(tries).collect();
    assert_eq!(what.len(), 10);
    not_reached(ground, machine, &what).await;
}

/// The machine tries the internet and the host by IPv6, and no packet appears.
pub async fn reaches_nothing(ground: &Ground<'_>, machine: &mut impl Machine) {
    ground.internet.seen.forget();
    let before = frames_sent(ground, machine).await;
    let what = [format!("tcp:{WEB_V6}:443"), format!("ping:{WEB_V6}")];
    not_reached(ground, machine, &what).await;
    let tried = what.len() + reaches_no_host(ground, machine).await;
    for (protocol, port) in [(TCP, 443), (ICMP_V6, ECHO)] {
        assert_eq!(ground.internet.seen.count(protocol, WEB_V6, port), 0, "{protocol} {port}");
    }
    let sent = frames_sent(ground, machine).await - before;
    assert!(sent >= tried, "of {tried} attempts only {sent} left the machine");
}

/// Frames made by hand: they are seen on the attacker's own tap and nowhere else.
pub async fn sends_no_frame(ground: &Ground<'_>, machine: &mut impl Machine) {
    let command = format!("python3 /tmp/frames6.py {}", ground.frames_of_ipv6());
    frames::stay(ground, machine, &command, KINDS, &FOR_THE_ROUTER).await;
}

/// After all of these frames, the host still has its first neighbours, and no router.
pub fn took_nobodys_place(ground: &Ground<'_>) {
    let bridge = &ground.subnet.bridge;
    let shown = |arguments: &[&str]| {
        let output =
            Command::new("ip").arg("-6").args(arguments).args(["dev", bridge]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let neighbours = shown(&["neigh", "show"]);
    assert!(
        neighbours.lines().count() > 200
            && neighbours.lines().all(|line| line.contains("PERMANENT")),
        "{neighbours}"
    );
    let own = ground.own.mac.to_string();
    let mine: Vec<&str> = neighbours.lines().filter(|line| line.contains(&own)).collect();
    assert!(
        matches!(mine.as_slice(), [one] if one.starts_with(&format!("{} ",
            ground.own.ipv6().unwrap()))),
        "{mine:?}"
    );
    let routes = shown(&["route", "show"]);
    assert!(!routes.contains("proto ra") && !routes.contains("fd00:bad"), "{routes}");
    assert_eq!(
        shown(&["-o", "addr", "show"]).lines().count(),
        1,
        "the gateway's address and no other"
    );
}
