//! Real packets, logged by real rules, in a network namespace of each test; and bytes that no
//! sender should send.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agentvm_core::names::{DomainName, InstanceId};
use agentvm_core::network::rules::{self, Wanted};
use agentvm_core::network::{
    Link, LinkLimits, Mac, Nic, Policy, Subnet, Table, TargetKind, derive_mac,
};
use agentvm_types::OwnerUid;
use proptest::prelude::*;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::*;
use crate::firewall::in_test_namespace::inside;

const GROUP: u16 = 4242;
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 10);
const GATEWAY: &str = "52:54:00:00:00:01";
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the test that calls it once more, alone in a network namespace. `true`: this is that run.
fn alone(test: &str) -> bool {
    inside(module_path!(), test, &[])
}

fn run(command: &str) {
    let done = Command::new("sh").args(["-ec", command]).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A machine's end of a wire: a namespace that a process holds open, or acts in. It ends with the
/// process.
struct Guest(Child);

impl Guest {
    /// `192.168.77.10` behind a port of the bridge `wire0` that has `.1`; the default route leads
    /// there.
    fn plugged_in(tap: &str, mac: Mac) -> Self {
        let child = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        let guest = Self(child.unwrap());
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let path = format!("/proc/{}/ns/net", guest.0.id());
        while fs::read_link(&path).unwrap() == own {
            std::thread::yield_now();
        }
        run(&format!(
            "ip link add wire0 type bridge && ip link set wire0 address {GATEWAY}
             ip link add {tap} type veth peer name eth0 netns {} && ip link set {tap} master wire0
             ip addr add 192.168.77.1/24 dev wire0 && ip link set wire0 up && ip link set {tap} up \
             && sysctl -qw net.ipv4.ip_forward=1
             ip link add world type veth peer name far && ip addr add 203.0.113.1/24 dev world
             ip link set world up && ip link set far up && ip route add default dev world",
            guest.0.id()
        ));
        guest.does(&format!(
            "ip link set eth0 address {mac} && ip addr add 192.168.77.10/24 dev eth0 && ip link \
                set eth0 up
             ip route add default via 192.168.77.1"
        ));
        // Until the bridge knows the wire, it drops all packets, ARP too.
        let is_forwarding = || {
            let said = Command::new("ip").args(["-details", "link", "show", tap]).output().unwrap();
            String::from_utf8_lossy(&said.stdout).contains("state forwarding")
        };
        let deadline = Instant::now() + PATIENCE;
        while !is_forwarding() {
            assert!(Instant::now() < deadline, "the port of {tap} never came up");
        }
        guest
    }

    fn does(&self, command: &str) {
        run(&format!("{} '{command}'", self.bash()));
    }

    /// Like [`Self::does`], for an action without an answer: it ends when it is dropped.
    fn tries(&self, command: &str) -> Self {
        let tries =
            Command::new("sh").args(["-c", &format!("exec {} '{command}'", self.bash())]).spawn();
        Self(tries.unwrap())
    }

    fn bash(&self) -> String {
        format!("nsenter --net=/proc/{}/ns/net bash -c", self.0.id())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn nft(rules: &str) {
    run(&format!("nft -f - <<'END'\n{rules}\nEND"));
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn what_a_qemu_sends_itself_is_told_with_its_user() {
    if !alone("what_a_qemu_sends_itself_is_told_with_its_user") {
        return;
    }
    let table = Table::of(&InstanceId::from_recorded("0a1b2c3d"));
    nft(&rules::write_qemu_only(&table, 2_100_000_000..=2_100_065_535));
    let mut reader = Reader::join(table.log_group()).unwrap();
    // The last packet has another sender, and is no news.
    for user in [2_100_000_007, 2_100_065_535, 2_100_065_536] {
        let send = "echo >/dev/udp/127.0.0.1/4242";
        run(&format!(
            "ip link set lo up; setpriv --reuid={user} --regid={user} --clear-groups bash -c \
                '{send}' 2>/dev/null || true"
        ));
    }
    let mut told = Vec::new();
    while let Some(datagram) = reader.next(Duration::from_millis(300)).unwrap() {
        told.extend(message::read(datagram).filter_map(|said| by_qemu(&said)));
    }
    let to = "UDP 127.0.0.1 port 4242".to_owned();
    assert_eq!(told, [(2_100_000_007, to.clone()), (2_100_065_535, to)]);
}

/// The rules of an installation with one machine that may have two connections at a time: its group
/// and its device.
fn installed() -> (u16, Nic) {
    let instance = InstanceId::from_recorded("0a1b2c3d");
    let subnet =
        Subnet { bridge: "wire0".into(), gateway: Ipv4Addr::new(192, 168, 77, 1), prefix: 24 };
    let nic = Nic::nat(&instance, &subnet, ADDRESS);
    let limits = LinkLimits { bytes_per_second: None, packets_per_second: 1000, connections: 2 };
    let policy = Policy {
        generation: 1,
        ipv6: false,
        allow: vec![],
        resolvers: vec![Ipv4Addr::new(203, 0, 113, 53)],
        limits,
    };
    let (table, policies) =
        (Table::of(&instance), BTreeMap::from([(OwnerUid::new("pool"), policy)]));
    let link = Link { nic: nic.clone(), owner_uid: OwnerUid::new("pool") };
    nft(&rules::write(&Wanted {
        table: &table,
        subnet: &subnet,
        gateway_mac: GATEWAY.parse().unwrap(),
        deny_list: &[],
        host_addresses: &[],
        leases: vec![],
        policies: &policies,
        before: &BTreeMap::new(),
        links: std::slice::from_ref(&link),
        qemu_users: None,
    }));
    nft(&rules::add_link(&table, &link));
    (table.log_group(), nic)
}

fn whose(tap: &str) -> SenderLookup {
    let tap = tap.to_owned();
    let machine = || Some(DomainName::from_recorded("machine"));
    SenderLookup::new(move |origin| match origin {
        Origin::Address(address) if *address == ADDRESS => machine(),
        Origin::Tap(name) if *name == tap => machine(),
        _ => None,
    })
}

/// All flows until this one, without those that systems send by themselves.
async fn heard(flows: &mut Receiver<Flow>, last: &str) -> Vec<String> {
    let mut all = Vec::new();
    let until = async {
        while all.last().is_none_or(|said: &String| said != last) {
            let flow = flows.recv().await.unwrap();
            assert_eq!(flow.machine.as_str(), "machine");
            if !flow.target.is_chatter() && flow.target.kind != TargetKind::Ipv6 {
                all.push(format!("{} {}", flow.verdict.as_str(), flow.target));
            }
        }
    };
    let done = timeout(PATIENCE, until).await;
    assert!(done.is_ok(), "never heard of {last}: {all:?}");
    all
}

/// Returns when the group has a reader.
async fn joined(group: u16) {
    let group = group.to_string();
    let listed = || fs::read_to_string("/proc/net/netfilter/nfnetlink_log").unwrap_or_default();
    let there = async {
        while !listed().lines().any(|line| line.split_whitespace().next() == Some(&group)) {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, there).await.is_ok(), "nobody joined group {group}: {}", listed());
}

#[tokio::test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
async fn what_the_rules_log_is_heard_with_whose_it_is() {
    if !alone("what_the_rules_log_is_heard_with_whose_it_is") {
        return;
    }
    let (group, nic) = installed();
    let mut flows = listen(group, whose(&nic.tap)).unwrap();
    joined(group).await;
    let guest = Guest::plugged_in(&nic.tap, nic.mac);
    let send = |to: &str| guest.tries(&format!("echo hello > /dev/udp/{to}"));
    let connect = |to: &str| guest.tries(&format!("exec 3<> /dev/tcp/{to}"));
    let as_another = || {
        guest.does(
            "ip addr add 192.168.77.66/32 dev eth0; ip route add 203.0.113.7 via \
                192.168.77.1 src 192.168.77.66",
        );
        send("203.0.113.7/9")
    };
    let attempts: [(&dyn Fn() -> Guest, &str); 7] = [
        (&|| send("203.0.113.53/53"), "allowed UDP 203.0.113.53 port 53"),
        (&|| connect("203.0.113.9/443"), "allowed TCP 203.0.113.9 port 443"),
        (&|| connect("203.0.113.9/80"), "limited TCP 203.0.113.9 port 80"),
        (&|| connect("203.0.113.9/8080"), "denied TCP 203.0.113.9 port 8080"),
        (&|| send("10.1.2.3/5432"), "denied UDP 10.1.2.3 port 5432"),
        (&|| send("192.168.77.99/1"), "frame ARP 192.168.77.99"),
        (&as_another, "frame UDP 203.0.113.7 port 9"),
    ];
    let (mut trying, mut all) = (Vec::new(), BTreeSet::new());
    for (attempt, heard_as) in attempts {
        // Each flow is waited for, however slow the host is. A sender without an answer tries
        // again, and is logged again.
        trying.push(attempt());
        all.extend(heard(&mut flows, heard_as).await);
    }
    assert_eq!(all, attempts.map(|(_, heard_as)| heard_as.to_owned()).into());
    let refused = Reader::join(group).unwrap_err();
    assert!(
        matches!(refused.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::AlreadyExists),
        "{refused}"
    );
    assert!(Reader::join(group + 1).is_ok(), "another installation has another group");
}

#[tokio::test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
async fn a_flood_that_nobody_reads_is_survived() {
    if !alone("a_flood_that_nobody_reads_is_survived") {
        return;
    }
    let mut flows = listen(GROUP, whose("tap0")).unwrap();
    joined(GROUP).await;
    // Without the bounds that an installation's own rules have.
    nft(&format!(
        "table inet t {{
  chain c {{ type filter hook forward priority -10; policy drop;
    iifname wire0 udp dport 666 log prefix \"another's\" group {GROUP} drop
    iifname wire0 log prefix \"deny\" group {GROUP} snaplen 96 drop
  }}
}}"
    ));
    let guest = Guest::plugged_in("tap0", derive_mac(&["guest"]));
    guest.does("exec 3> /dev/udp/203.0.113.9/666; for n in {1..100}; do echo >&3; done");
    guest.does("exec 3> /dev/udp/203.0.113.9/9; for n in {1..20000}; do echo >&3; done");
    // The reader has nowhere to put them, and reads on.
    let full = async {
        while flows.len() < WAITING {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, full).await.is_ok(), "{} flows", flows.len());
    while let Ok(flow) = flows.try_recv() {
        assert_eq!(flow.target.port, Some(9), "only what the rules of an installation say");
    }
    let again = async {
        loop {
            guest.does("echo > /dev/udp/203.0.113.9/11");
            if let Ok(Some(flow)) = timeout(Duration::from_millis(200), flows.recv()).await
                && flow.target.port == Some(11)
            {
                break;
            }
        }
    };
    assert!(timeout(PATIENCE, again).await.is_ok(), "it is heard again when there is room");
    drop(flows);
    let left = async {
        while Reader::join(GROUP).is_err() {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, left).await.is_ok(), "the group is left when nobody listens");
}

/// The form that the kernel sends: header, group, attributes.
fn datagram(attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![2, 0];
    body.extend(GROUP.to_be_bytes());
    for (kind, value) in attributes {
        body.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut all = u32::try_from(body.len() + 16).unwrap().to_ne_bytes().to_vec();
    all.extend((4_u16 << 8).to_ne_bytes());
    all.extend([0; 10]);
    all.extend(body);
    all
}

#[test]
fn attributes_are_read_by_their_kind() {
    let bytes = datagram(&[
        (6, vec![0, 0, 0, 7]),
        (4, vec![0, 0, 0, 3]),
        (10, b"deny\0".to_vec()),
        (9, vec![1, 2, 3]),
    ]);
    let twice = [bytes.clone(), bytes.clone()].concat();
    let said: Vec<_> = message::read(&twice).collect();
    let payload: &[u8] = &[1, 2, 3];
    let expected =
        Logged { group: GROUP, prefix: b"deny", device: Some(7), payload, ..Logged::default() };
    assert_eq!(
        said,
        [Said::Packet(expected), Said::Packet(expected)],
        "the port of the bridge, not the bridge"
    );
    let mut cut = bytes;
    cut.truncate(cut.len() - 1);
    assert_eq!(message::read(&cut).count(), 0, "a message that isn't all there says nothing");
    let answer =
        [20_u32.to_ne_bytes().as_slice(), &2_u16.to_ne_bytes(), &[0; 10], &(-1_i32).to_ne_bytes()]
            .concat();
    assert_eq!(message::read(&answer).collect::<Vec<_>>(), [Said::Answer(1)]);
}

fn attributes() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    prop::collection::vec((0_u16..24, prop::collection::vec(any::<u8>(), 0..100)), 0..12)
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        prop_assert!(message::read(&bytes).filter_map(packet).count() <= bytes.len() / 16);
    }

    #[test]
    fn any_attributes_and_any_damage_to_them_are_read_to_their_end(
        attributes in attributes(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
            cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = datagram(&attributes);
        let length = bytes.len();
        prop_assert_eq!(message::read(&bytes).count(), 1);
        bytes[at.index(length)] = byte;
        bytes.truncate(cut.index(length));
        prop_assert!(message::read(&bytes).filter_map(packet).count() <= bytes.len() / 16 + 1);
    }
}
