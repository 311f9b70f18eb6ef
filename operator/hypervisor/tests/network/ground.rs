//! Where attacks happen: who else is there, who listens, and what every attack is judged by.
//!
//! An attack failed if nobody saw it: a listener that nobody asked, a link that no frame of it crossed. What the attacker
//! itself says counts only where it says that it got through.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agentvm_core::network::{LinkLimits, Mac, Nic, Policy, Subnet};

use crate::internet::{DNS, HOST_PUBLIC_V6, Internet, NODE, NODE_V6, PRIVATE, PRIVATE_V6, WEB, WEB_V6};

/// Held by tests with real guests, and by those that measure: they share few processors.
pub static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Somebody who attacks.
pub trait Machine {
    /// Runs a shell command as root; what it says.
    async fn sh(&mut self, command: &str) -> String;
}

/// What a pool gets that asks for IPv6.
pub fn dual_policy() -> Policy {
    Policy { ipv6: true, ..policy() }
}

/// What a pool gets that asks for nothing.
pub fn policy() -> Policy {
    let limits = LinkLimits { bytes_per_second: None, packets_per_second: 20_000, connections: 512 };
    Policy { generation: 1, ipv6: false, allow: Vec::new(), resolvers: vec![DNS], limits }
}

/// What the tests configure as the cluster's own addresses.
pub fn node_networks<N: std::str::FromStr>() -> Vec<N> {
    [format!("{NODE}/32"), format!("{NODE_V6}/128")].iter().flat_map(|net| net.parse()).collect()
}

/// The attacker's place.
pub struct Ground<'a> {
    pub internet: &'a Internet,
    pub subnet: Subnet,
    pub gateway_mac: Mac,
    pub own: Nic,
    /// Of the same pool, and of another one.
    pub others: [Nic; 2],
    /// The attacker's name of its network interface.
    pub link: String,
}

impl Ground<'_> {
    /// Puts a script into the machine.
    pub async fn put(&self, machine: &mut impl Machine, name: &str, script: &str) {
        let said = machine.sh(&format!("cat > /tmp/{name} <<'END OF SCRIPT'\n{script}\nEND OF SCRIPT")).await;
        assert_eq!(said, "", "{name}");
    }

    /// Tries to reach all of these at once: what came of each. `who`: how the command is run, such as `setpriv …`.
    pub async fn reach(&self, machine: &mut impl Machine, who: &str, what: &[String]) -> BTreeMap<String, String> {
        let said = machine.sh(&format!("{who} python3 /tmp/connects.py {}", what.join(" "))).await;
        let results = said.lines().filter_map(|line| line.split_once(' '));
        let results: BTreeMap<String, String> =
            results.map(|(what, came)| (what.to_owned(), came.to_owned())).collect();
        assert_eq!(results.len(), what.iter().collect::<BTreeSet<_>>().len(), "{said}");
        results
    }

    /// The arguments of `frames.py`.
    pub fn frames(&self) -> String {
        let Subnet { gateway, .. } = self.subnet;
        let [own, peer] = [&self.own, &self.others[0]];
        let last = |host: u8| Ipv4Addr::from(u32::from(self.subnet.net().network()) + u32::from(host));
        format!(
            "link={} mac={} ip={} gateway={gateway} gateway_mac={} peer_mac={} peer_ip={} unused={} broadcast={} \
             web={WEB} host={} node={NODE} private={} private6={PRIVATE_V6}",
            self.link,
            own.mac,
            own.address().unwrap(),
            self.gateway_mac,
            peer.mac,
            peer.address().unwrap(),
            last(200),
            last(255),
            host_addresses()[0],
            PRIVATE[0],
        )
    }
}

impl Ground<'_> {
    /// The arguments of `frames6.py`.
    pub fn frames_of_ipv6(&self) -> String {
        let [own, peer] = [&self.own, &self.others[0]];
        let (net, gateway) = Nic::around(own.ipv6().unwrap());
        format!(
            "link={} mac={} ip={} gateway={gateway} gateway_mac={} peer_mac={} peer_ip={} unused={} web={WEB_V6} \
             host={HOST_PUBLIC_V6} node={NODE_V6} private={PRIVATE_V6}",
            self.link,
            own.mac,
            own.ipv6().unwrap(),
            self.gateway_mac,
            peer.mac,
            peer.ipv6().unwrap(),
            net.hosts().nth(200).unwrap(),
        )
    }
}

/// The host's own addresses that a route leads to, without loopback.
pub fn host_addresses_of_ipv6() -> Vec<Ipv6Addr> {
    let output = Command::new("ip").args(["-6", "-o", "addr", "show", "scope", "global"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split("inet6 ").nth(1)?.split('/').next()?.parse().ok()).collect()
}

/// The host's own addresses, without loopback.
pub fn host_addresses() -> Vec<Ipv4Addr> {
    let output = Command::new("ip").args(["-4", "-o", "addr", "show"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let addresses = text.lines().filter_map(|line| line.split("inet ").nth(1)?.split('/').next()?.parse().ok());
    addresses.filter(|address: &Ipv4Addr| !address.is_loopback()).collect()
}

/// The TCP and UDP ports on which anything of the host listens.
pub fn host_ports(protocol: &str) -> BTreeSet<u16> {
    let flag = if protocol == "tcp" { "-Hlnt" } else { "-Hlnu" };
    let output = Command::new("ss").arg(flag).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let local = text.lines().filter_map(|line| line.split_whitespace().nth(3));
    local.filter_map(|address| address.rsplit(':').next()?.parse().ok()).collect()
}

/// Servers of the host on all its addresses, and how often anybody asked.
pub struct HostServers {
    pub tcp: u16,
    pub udp: u16,
    asked: Arc<AtomicU64>,
}

impl HostServers {
    pub fn new() -> Self {
        let asked = Arc::new(AtomicU64::new(0));
        let listener = TcpListener::bind("[::]:0").unwrap();
        let socket = UdpSocket::bind("[::]:0").unwrap();
        let (tcp, udp) = (listener.local_addr().unwrap().port(), socket.local_addr().unwrap().port());
        let count = asked.clone();
        std::thread::spawn(move || {
            while listener.accept().is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let count = asked.clone();
        std::thread::spawn(move || {
            while socket.recv_from(&mut [0; 100]).is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let this = Self { tcp, udp, asked };
        this.control();
        this
    }

    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// They answer on every address, and count.
    fn control(&self) {
        let addresses = host_addresses();
        for address in &addresses {
            TcpStream::connect((*address, self.tcp)).unwrap();
            UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"control", (*address, self.udp)).unwrap();
        }
        wait_for("the host's servers to count", || self.asked() == 2 * addresses.len() as u64);
        self.asked.store(0, Ordering::Relaxed);
    }
}

/// By mark: link and direction.
type Sightings = BTreeMap<String, BTreeSet<(String, String)>>;

/// Where frames with a mark were seen on the host, by mark: (link, `in` or `out`).
pub struct Spy {
    child: Child,
    seen: Arc<Mutex<Sightings>>,
}

impl Spy {
    pub fn new() -> Self {
        let script = include_str!("spy.py");
        let mut child = Command::new("python3").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let seen = Arc::new(Mutex::new(Sightings::new()));
        let into = seen.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let words: Vec<&str> = line.split(' ').collect();
                let at = (words[0].to_owned(), words[1].to_owned());
                into.lock().unwrap().entry(words[2].to_owned()).or_default().insert(at);
            }
        });
        Self { child, seen }
    }

    pub fn seen(&self) -> Sightings {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until a mark was seen on a link.
    pub fn until(&self, mark: &str, link: &str) {
        let there = || self.seen().get(mark).is_some_and(|seen| seen.iter().any(|(at, _)| at == link));
        wait_for(&format!("{mark} on {link}"), there);
    }
}

impl Drop for Spy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
