//! The escape table: the attempts of a machine of any kind. The test names the attacker for each
//! attack.

use std::time::Duration;

use crate::frames;
use crate::ground::{Ground, HostServers, Machine, PATIENT, host_addresses, host_ports};
use agentvm_testing::holds_within_async;
use agentvm_testing::networks::internet::{
    DNS, ICMP, NODE, NOT_NODE, OTHER_DNS, PORTS, PRIVATE, PRIVATE_V6, TCP, UDP, WEB,
};

/// The frames that are tried, by the beginning of their marks. The threat model lists them; each
/// kind occurs at least once.
const KINDS: &str = "spoof-ip- spoof-mac- spoof-both group- stp- arp- rarp broadcast multicast- \
    igmp dhcp- ipv6-rogue- \
    ipv6- vlan ethertype- pppoe mpls snap fragment- source-route proto- icmp- port- six-in-four \
    to- \
    private- layer2- routed-to-";
/// These of them are well-formed: the bridge hands them to the host, which has to refuse them.
const FOR_THE_ROUTER: [&str; 8] = [
    "routed-to-",
    "broadcast-routed",
    "proto-",
    "icmp-",
    "to-",
    "private-",
    "port-",
    "six-in-four",
];

/// Runs a command as the default user of runs.
const AGENT_USER: &str =
    "setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all --bounding-set=-all";

pub async fn prepare(ground: &Ground<'_>, machine: &mut impl Machine) {
    ground.put(machine, "connects.py", include_str!("connects.py")).await;
    ground.put(machine, "frames.py", include_str!("frames.py")).await;
}

/// Reachable by default.
pub async fn reaches_the_internet(ground: &Ground<'_>, machine: &mut impl Machine) {
    let mut what: Vec<String> =
        [22, 80, 443, 9418].iter().map(|port| format!("tcp:{WEB}:{port}")).collect();
    what.extend([format!("tcp:{NOT_NODE}:443"), format!("ping:{WEB}"), format!("tcp:{DNS}:53")]);
    for (what, came) in ground.reach(machine, PATIENT, &what).await {
        assert_eq!(came, "ok", "{what}");
    }
    assert_eq!(led(ground, machine, "web.test").await, WEB.to_string());
    for (protocol, port) in [(TCP, 22), (TCP, 80), (TCP, 443), (TCP, 9418), (ICMP, 0)] {
        assert!(ground.internet.seen.until(protocol, WEB, port), "{protocol} {port}");
    }
}

/// Where a name leads, as the pool's resolver says.
async fn led(ground: &Ground<'_>, machine: &mut impl Machine, name: &str) -> String {
    let asked = ground.reach(machine, PATIENT, &[format!("dns:{name}@{DNS}")]).await;
    asked.into_values().collect()
}

/// Names that lead to forbidden addresses are answered, but the addresses are not reached.
pub async fn follows_no_name(ground: &Ground<'_>, machine: &mut impl Machine) {
    let names = [("metadata.google.internal", PRIVATE[4]), ("rebound.test", PRIVATE[0])];
    let mut what = Vec::new();
    for (name, leads_to) in names {
        let address = led(ground, machine, name).await;
        assert_eq!(address, leads_to.to_string(), "{name}");
        what.extend(PORTS.map(|port| format!("tcp:{address}:{port}")));
        what.push(format!("ping:{address}"));
    }
    not_reached(ground, machine, &what).await;
    for (name, address) in names {
        assert_eq!(ground.internet.seen.to(address), 0, "{name}");
    }
}

/// The internet sees only packets that the policy permits.
pub async fn reaches_nothing_else(ground: &Ground<'_>, machine: &mut impl Machine) {
    ground.internet.seen.forget();
    let mut what =
        vec![format!("tcp:{WEB}:8080"), format!("tcp:{WEB}:25"), format!("tcp:{OTHER_DNS}:53")];
    what.extend([443, 8080].map(|port| format!("udp:{WEB}:{port}")));
    what.extend(
        [OTHER_DNS, WEB]
            .into_iter()
            .chain(PRIVATE)
            .map(|resolver| format!("dns:web.test@{resolver}")),
    );
    for address in PRIVATE.into_iter().chain([NODE]) {
        what.extend(PORTS.map(|port| format!("tcp:{address}:{port}")));
        what.push(format!("ping:{address}"));
    }
    what.push(format!("tcp:{PRIVATE_V6}:80"));
    not_reached(ground, machine, &what).await;
    let seen = ground.internet.seen.all();
    let unwanted: Vec<_> = seen
        .keys()
        .filter(|(protocol, to, port)| !ordinary(*protocol, &to.to_string(), *port))
        .collect();
    assert!(unwanted.is_empty(), "these arrived: {unwanted:?}");
}

/// The kernels at both ends of the wire to the internet send these by themselves.
fn ordinary(protocol: u8, to: &str, port: u16) -> bool {
    to.starts_with("ff02:") || (protocol == UDP && port == 5353)
}

/// The machine reaches no address of the host on any port that listens; returns the number of
/// attempts.
pub async fn reaches_no_host(ground: &Ground<'_>, machine: &mut impl Machine) -> usize {
    reaches_no_port(ground, machine, host_addresses()).await
}

/// The machine reaches none of these addresses of the host; returns the number of attempts.
pub async fn reaches_no_port(
    ground: &Ground<'_>,
    machine: &mut impl Machine,
    addresses: impl IntoIterator<Item = impl std::fmt::Display>,
) -> usize {
    let servers = HostServers::new();
    let (tcp, udp) = (host_ports("tcp"), host_ports("udp"));
    assert!(tcp.contains(&servers.tcp) && udp.contains(&servers.udp));
    let mut what = Vec::new();
    for address in addresses {
        what.extend(tcp.iter().map(|port| format!("tcp:{address}:{port}")));
        what.extend(udp.iter().map(|port| format!("udp:{address}:{port}")));
        what.push(format!("ping:{address}"));
    }
    not_reached(ground, machine, &what).await;
    assert_eq!(servers.asked(), 0, "a server of the host was asked");
    what.len()
}

/// Not even that another machine is there.
pub async fn reaches_no_machine(ground: &Ground<'_>, machine: &mut impl Machine) {
    let addresses = ground.others.iter().filter_map(agentvm_core::network::Nic::address);
    let what: Vec<String> = addresses
        .flat_map(|address| {
            let ports = [22, 80, 443, 8000].map(|port| format!("tcp:{address}:{port}"));
            ports.into_iter().chain([format!("ping:{address}"), format!("udp:{address}:53")])
        })
        .collect();
    not_reached(ground, machine, &what).await;
}

/// vsock leads neither to the host nor back to the agent. A user who is not root cannot even make a
/// frame.
pub async fn has_no_other_way(ground: &Ground<'_>, machine: &mut impl Machine) {
    let agent = 9999;
    let mut what: Vec<String> = [1, 2, 3].map(|cid| format!("vsock:{cid}:{agent}")).into();
    what.extend([1, 22, 80, 1024].map(|port| format!("vsock:2:{port}")));
    for who in ["", AGENT_USER] {
        for (what, came) in ground.reach(machine, who, &what).await {
            assert_ne!(came, "ok", "{what} as {who}");
        }
    }
    let raw = "import socket\nfor f, k in ((17, 3), (2, 3)):\n  try: socket.socket(f, k, 3 if f == \
        17 else 255); print('made')\n  except PermissionError: print('refused')";
    let said = machine.sh(&format!("{AGENT_USER} python3 -c \"{raw}\"")).await;
    assert_eq!(said, "refused\nrefused");
    let link = &ground.link;
    let change = format!(
        "for c in 'link set {link} address 52:54:00:00:00:99' 'addr add 192.168.101.99/24 dev \
            {link}' 'link set {link} down'; do \
         {AGENT_USER} ip $c 2>/dev/null && echo CHANGED; done; true"
    );
    assert_eq!(machine.sh(&change).await, "");
}

/// The machine is not connected: it tries the internet and the host, and its packets appear only on
/// its own tap.
pub async fn reaches_nothing(ground: &Ground<'_>, machine: &mut impl Machine) {
    ground.internet.seen.forget();
    let before = frames_sent(ground, machine).await;
    let what = [format!("tcp:{WEB}:443"), format!("ping:{WEB}"), format!("dns:web.test@{DNS}")];
    for (what, came) in ground.reach(machine, "", &what).await {
        assert_ne!(came, "ok", "{what}");
    }
    let tried = what.len() + reaches_no_host(ground, machine).await;
    assert_eq!(ground.internet.seen.to(WEB) + ground.internet.seen.to(DNS), 0);
    let sent = frames_sent(ground, machine).await - before;
    assert!(sent >= tried, "of {tried} attempts only {sent} left the machine");
}

/// The number of frames that its own kernel has sent.
pub async fn frames_sent(ground: &Ground<'_>, machine: &mut impl Machine) -> usize {
    let said =
        machine.sh(&format!("cat /sys/class/net/{}/statistics/tx_packets", ground.link)).await;
    said.parse().unwrap_or_else(|_| panic!("{said}"))
}

/// Holds a connection to a port that stays allowed, and one to a port that `tighten` closes. The
/// first goes on, the second ends.
pub async fn a_policy_is_tightened<F: Future>(
    ground: &Ground<'_>,
    machine: &mut impl Machine,
    tighten: impl FnOnce() -> F,
) {
    ground.put(machine, "holding.py", include_str!("holding.py")).await;
    ground.internet.seen.forget();
    let holding = format!("python3 /tmp/holding.py {WEB}:443 {WEB}:8080");
    let tightened = async {
        let talks = |port| ground.internet.seen.count(TCP, WEB, port) >= 5;
        let both =
            holds_within_async(Duration::from_secs(30), async || talks(443) && talks(8080)).await;
        if both {
            tighten().await;
        }
        both
    };
    let (said, tightened) = tokio::join!(machine.sh(&holding), tightened);
    assert!(tightened, "both were to talk before: {said}; {:?}", ground.internet.seen.all());
    assert_eq!(said, format!("{WEB}:443 talks\n{WEB}:8080 silent"));
    not_reached(ground, machine, &[format!("tcp:{WEB}:8080")]).await;
}

pub async fn not_reached(ground: &Ground<'_>, machine: &mut impl Machine, what: &[String]) {
    for chunk in what.chunks(100) {
        let reached = ground.reach(machine, "", chunk).await;
        // A refusal is an answer too, and so is a closed connection.
        let answers = ["ok", "refused", "ECONNRESET", "EPIPE"];
        let told: Vec<_> =
            reached.iter().filter(|(_, came)| answers.contains(&came.as_str())).collect();
        assert!(told.is_empty(), "reached: {told:?}");
    }
}

/// Frames made by hand: they are seen on the attacker's own tap and nowhere else.
pub async fn sends_no_frame(ground: &Ground<'_>, machine: &mut impl Machine) {
    let command = format!("python3 /tmp/frames.py {}", ground.frames());
    frames::stay(ground, machine, &command, KINDS, &FOR_THE_ROUTER).await;
}

/// After all of these frames, no member's place on the bridge was taken over.
pub fn took_nobodys_place(ground: &Ground<'_>) {
    let bridge = &ground.subnet.bridge;
    let of_bridge = |file: &str| {
        std::fs::read_to_string(format!("/sys/class/net/{bridge}/bridge/{file}")).unwrap()
    };
    assert_eq!(
        of_bridge("stp_state").trim(),
        "0",
        "with STP on, a machine may become the bridge's root"
    );
    assert_eq!(of_bridge("root_id"), of_bridge("bridge_id"));
    let output = std::process::Command::new("bridge")
        .args(["fdb", "show", "dev", &ground.own.tap])
        .output()
        .unwrap();
    let learnt = String::from_utf8(output.stdout).unwrap();
    let others =
        ground.others.iter().map(|nic| nic.mac.to_string()).chain([ground.gateway_mac.to_string()]);
    for mac in others {
        assert!(!learnt.contains(&mac), "frames for {mac} go to the attacker now:\n{learnt}");
    }
    let output = std::process::Command::new("ip")
        .args(["-4", "neigh", "show", "dev", bridge])
        .output()
        .unwrap();
    let neighbours = String::from_utf8(output.stdout).unwrap();
    let own = ground.own.mac.to_string();
    for line in neighbours.lines().filter(|line| line.contains(&own)) {
        assert!(
            line.starts_with(&format!("{} ", ground.own.address().unwrap())),
            "the host believes: {line}"
        );
    }
}
