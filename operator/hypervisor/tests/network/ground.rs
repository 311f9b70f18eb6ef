//! The scene of the attacks: its members, their listeners, and the evidence by which each attack is
//! judged.
//!
//! An attack failed if it left no trace: no listener was asked, and no frame crossed a link. The
//! attacker's own report counts only when it says that it got through.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentvm_core::network::{LinkLimits, Mac, Nic, Policy, Subnet};

use agentvm_testing::networks::internet::{
    DNS, HOST_PUBLIC_V6, Internet, NODE, NODE_V6, PRIVATE, PRIVATE_V6, WEB, WEB_V6,
};
use agentvm_testing::wait_until;

/// Tests with real guests and tests that measure hold this lock: they share few processors.
pub static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The patience with the host when it asks itself.
const CONTROL: Duration = Duration::from_secs(10);
/// The command prefix of [`Ground::reach`] when everything must be reached: it waits as long as it
/// takes on a slow host.
pub const PATIENT: &str = "WAIT=30";

/// An attacker.
pub trait Machine {
    /// Runs a shell command as root; returns its output.
    async fn sh(&mut self, command: &str) -> String;
}

/// The policy of a pool that asks for IPv6.
pub fn dual_policy() -> Policy {
    Policy { ipv6: true, ..policy() }
}

/// The policy of a pool that asks for nothing.
pub fn policy() -> Policy {
    let limits =
        LinkLimits { bytes_per_second: None, packets_per_second: 20_000, connections: 512 };
    Policy { generation: 1, ipv6: false, allow: Vec::new(), resolvers: vec![DNS], limits }
}

/// The addresses that the tests configure as the cluster's own.
pub fn node_networks<N: std::str::FromStr>() -> Vec<N> {
    [format!("{NODE}/32"), format!("{NODE_V6}/128")].iter().flat_map(|net| net.parse()).collect()
}

/// The attacker's place.
pub struct Ground<'a> {
    pub internet: &'a Internet,
    pub subnet: Subnet,
    pub gateway_mac: Mac,
    pub own: Nic,
    /// A machine of this pool, and one of another pool.
    pub others: [Nic; 2],
    /// The attacker's name of its network interface.
    pub link: String,
}

impl Ground<'_> {
    /// Puts a script into the machine.
    pub async fn put(&self, machine: &mut impl Machine, name: &str, script: &str) {
        let said = machine
            .sh(&format!("cat > /tmp/{name} <<'END OF SCRIPT'\n{script}\nEND OF SCRIPT"))
            .await;
        assert_eq!(said, "", "{name}");
    }

    /// Tries to reach all of these at once; returns each outcome. `who` is the command prefix, such
    /// as `setpriv …`.
    pub async fn reach(
        &self,
        machine: &mut impl Machine,
        who: &str,
        what: &[String],
    ) -> BTreeMap<String, String> {
        let said = machine.sh(&format!("{who} python3 /tmp/connects.py {}", what.join(" "))).await;
        let results = said.lines().filter_map(|line| line.split_once(' '));
        let results: BTreeMap<String, String> =
            results.map(|(what, came)| (what.to_owned(), came.to_owned())).collect();
        assert_eq!(results.len(), what.iter().collect::<BTreeSet<_>>().len(), "{said}");
        results
    }

    /// The beginning of the marks of this attacker's frames: others attack at the same time.
    pub fn salt(&self) -> String {
        format!("E{:02x}", self.internet.number())
    }

    /// The arguments of `frames.py`.
    pub fn frames(&self) -> String {
        let Subnet { gateway, .. } = self.subnet;
        let [own, peer] = [&self.own, &self.others[0]];
        let last =
            |host: u8| Ipv4Addr::from(u32::from(self.subnet.net().network()) + u32::from(host));
        format!(
            "salt={} link={} mac={} ip={} gateway={gateway} gateway_mac={} peer_mac={} peer_ip={} \
                unused={} broadcast={} \
             web={WEB} host={} node={NODE} private={} private6={PRIVATE_V6}",
            self.salt(),
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
            "salt={} link={} mac={} ip={} gateway={gateway} gateway_mac={} peer_mac={} peer_ip={} \
                unused={} web={WEB_V6} \
             host={HOST_PUBLIC_V6} node={NODE_V6} private={PRIVATE_V6}",
            self.salt(),
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
    let output =
        Command::new("ip").args(["-6", "-o", "addr", "show", "scope", "global"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split("inet6 ").nth(1)?.split('/').next()?.parse().ok())
        .collect()
}

/// The host's own addresses, without loopback.
pub fn host_addresses() -> Vec<Ipv4Addr> {
    let output = Command::new("ip").args(["-4", "-o", "addr", "show"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let addresses =
        text.lines().filter_map(|line| line.split("inet ").nth(1)?.split('/').next()?.parse().ok());
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

/// Servers of the host on all its addresses, with counts of their visitors.
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
        let (tcp, udp) =
            (listener.local_addr().unwrap().port(), socket.local_addr().unwrap().port());
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

    /// They answer on every address, and count. An address that another test has removed meanwhile
    /// does not count.
    fn control(&self) {
        let of_ipv6 = || host_addresses_of_ipv6().into_iter().map(IpAddr::from);
        let addresses = || host_addresses().into_iter().map(IpAddr::from).chain(of_ipv6());
        for address in addresses() {
            let before = self.asked();
            let connected = TcpStream::connect_timeout(&(address, self.tcp).into(), CONTROL);
            if connected.is_err() && !addresses().any(|there| there == address) {
                continue;
            }
            connected.unwrap_or_else(|why| panic!("{address}: {why}"));
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            UdpSocket::bind(any).unwrap().send_to(b"control", (address, self.udp)).unwrap();
            wait_until("the host's servers to count", || self.asked() == before + 2);
        }
        self.asked.store(0, Ordering::Relaxed);
    }
}
