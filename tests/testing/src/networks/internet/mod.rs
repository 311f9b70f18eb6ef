//! The internet of the tests: a network namespace with documentation addresses, and real listeners
//! behind each of them.
//!
//! Every packet of a guest that the host would forward ends here, private ranges and metadata
//! addresses included. So a packet that is not stopped is *seen* ([`Seen`]), and none leaves the
//! machine. The namespace has a routing table of its own, which serves only packets from the
//! guests' bridge. The host's own way to the world stays as it is, and several tests can have one
//! internet each.

pub mod offers;
mod seen;
mod serve;

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub use seen::{ICMP, ICMP_V6, Kind, Seen, TCP, UDP};
pub use serve::Pages;

/// The tests' resolver, and a resolver that no policy names.
pub const DNS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
pub const OTHER_DNS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 54);
/// An ordinary server.
pub const WEB: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
/// Here port 22 is left to a real sshd.
pub const SSH: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 22);
/// Looks public; tests configure it as an address of the cluster.
pub const NODE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// Beside it, and not configured.
pub const NOT_NODE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 99);
/// One server in each range that is never reachable.
pub const PRIVATE: [Ipv4Addr; 8] = [
    Ipv4Addr::new(10, 99, 0, 1),
    Ipv4Addr::new(172, 20, 0, 1),
    Ipv4Addr::new(192, 168, 77, 1),
    Ipv4Addr::new(100, 64, 0, 1),
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(198, 18, 0, 1),
];
pub const PRIVATE_V6: &str = "fd00:99::1";
/// The ordinary server, and an address that is configured as one of the cluster.
pub const WEB_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80);
pub const NODE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0, 0x10);
/// One server in each range of IPv6 that is neither internet nor private: tunnels to IPv4, and
/// unassigned ranges.
pub const NOWHERE_V6: [&str; 5] =
    ["2002:a63:1::1", "2001:0:a63:1::1", "64:ff9b::a63:1", "100::1", "4000::1"];
/// The TCP ports that listen on every address. The default policy passes the first four.
pub const PORTS: [u16; 6] = [22, 80, 443, 9418, 8080, 25];

/// The router's address in it, and the host's on the wire to it.
const ROUTER: &str = "203.0.113.1";
const HOST: &str = "203.0.113.254";
const HOST_V6: &str = "fd00:99::254";
/// In IPv6 each has a public one besides.
const ROUTER_PUBLIC_V6: &str = "2001:db8::1";
pub const HOST_PUBLIC_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x254);
/// Numbers of our routing tables are above this.
const TABLES: u32 = 1_000_000_000;

/// It ends with the value, also when a test panics. The next one removes the remains of a killed
/// process.
pub struct Internet {
    name: String,
    table: u32,
    stop: Arc<AtomicBool>,
    pub seen: Seen,
    pub pages: Pages,
}

impl Internet {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_stale();
        let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed) % 16);
        let this = Self {
            name: format!("avt{pid:x}{number:x}"),
            table: TABLES + pid * 16 + number,
            stop: Arc::default(),
            seen: Seen::default(),
            pages: Pages::default(),
        };
        this.wire();
        this.listen();
        this
    }

    /// The host's end of the wire: bound to it, the host itself reaches everything in here.
    pub fn link(&self) -> String {
        format!("{}h", self.name)
    }

    /// The namespace's name, for `ip netns exec`.
    pub fn namespace(&self) -> &str {
        &self.name
    }

    /// Different for each that is there at the same time, but by a rare accident.
    pub fn number(&self) -> u8 {
        self.table.to_le_bytes()[0]
    }

    fn wire(&self) {
        let (name, link, table) = (&self.name, self.link(), self.table);
        ip(&format!("netns add {name}"));
        ip(&format!("link add {link} type veth peer name net netns {name}"));
        // The routes are not in the host's main table: the machine may have another way to these
        // addresses, and other tests have equal addresses.
        ip(&format!("addr add {HOST}/32 dev {link}"));
        ip(&format!("-6 addr add {HOST_V6}/128 dev {link} nodad"));
        ip(&format!("-6 addr add {HOST_PUBLIC_V6}/128 dev {link} nodad"));
        ip(&format!("link set {link} up"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} addr add {ROUTER}/24 dev net"));
        for address in [DNS, OTHER_DNS, WEB, SSH, NODE, NOT_NODE].into_iter().chain(PRIVATE) {
            ip(&format!("-n {name} addr add {address}/32 dev lo"));
        }
        // On this wire, only the interface that has an address answers for it.
        for address in [PRIVATE_V6, ROUTER_PUBLIC_V6] {
            ip(&format!("-n {name} -6 addr add {address}/64 dev net nodad"));
        }
        for address in [WEB_V6, NODE_V6]
            .map(|address| address.to_string())
            .iter()
            .map(String::as_str)
            .chain(NOWHERE_V6)
        {
            ip(&format!("-n {name} -6 addr add {address}/128 dev net nodad"));
        }
        ip(&format!("-n {name} link set net up"));
        ip(&format!("route add default via {ROUTER} dev {link} onlink src {HOST} table {table}"));
        ip(&format!("-6 route add default dev {link} src {HOST_V6} table {table}"));
        self.rules(&format!("oif {link}"));
    }

    fn rules(&self, selector: &str) {
        for family in ["-4", "-6"] {
            ip(&format!("{family} rule add pref 900 {selector} lookup {}", self.table));
        }
    }

    /// Packets from a bridge come here and go nowhere else, whatever the rules under test say. They
    /// are routed here. A forwarded packet that would leave by another way (or back to the bridge,
    /// which the rules must stop) is dropped and counted. `subnet` is the guests' subnet, such as
    /// `192.168.101.0/24`.
    pub fn attach(&self, bridge: &str, subnet: &str) {
        self.rules(&format!("iif {bridge}"));
        let link = self.link();
        nft(&format!(
            "table inet {0} {{ counter escaped {{ packets 0 bytes 0\n }}\n chain forward {{ type \
                filter hook forward priority 300;\n \
             iifname \"{bridge}\" oifname != {{ \"{link}\", \"{bridge}\" }} counter name escaped \
             drop\n }}\n}}",
            self.name
        ));
        ip(&format!("route replace {subnet} dev {bridge} table {}", self.table));
    }

    /// Adds the way back to machines with IPv6; call it after [`Self::attach`].
    pub fn attach_ipv6(&self, bridge: &str, network: &str) {
        ip(&format!("-6 route replace {network} dev {bridge} table {}", self.table));
    }

    /// Packets from the bridge that were on their way to the real network.
    pub fn escaped(&self) -> u64 {
        let text = said(
            Command::new("nft").args(["-j", "list", "counter", "inet", &self.name, "escaped"]),
        );
        let (_, rest) = text.split_once("\"packets\": ").unwrap();
        rest.split([',', '}']).next().unwrap().trim().parse().unwrap()
    }

    /// A command within it: its standard output; it has to succeed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        said(Command::new("ip").args(["netns", "exec", &self.name, program]).args(arguments))
    }

    fn listen(&self) {
        let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let (seen, pages, stop) = (self.seen.clone(), self.pages.clone(), self.stop.clone());
        // A socket stays in the namespace of the thread that made it; the thread ends.
        let inside = std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            seen::watch(&seen, &stop);
            serve::all(&pages, &stop);
        });
        inside.join().unwrap();
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        remove(&self.name, self.table);
    }
}

/// Removes all parts of an internet. A part that is missing is no error.
fn remove(name: &str, table: u32) {
    let _ = Command::new("ip").args(["link", "delete", &format!("{name}h")]).output();
    let _ = Command::new("ip").args(["netns", "delete", name]).output();
    let _ = Command::new("nft").args(["delete", "table", "inet", name]).output();
    for family in ["-4", "-6"] {
        let table = table.to_string();
        while succeeds(Command::new("ip").args([family, "rule", "delete", "lookup", &table])) {}
        let _ = Command::new("ip").args([family, "route", "flush", "table", &table]).output();
    }
}

/// Removes the internets of processes that were killed.
fn remove_stale() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(id) = name.strip_prefix("avt").and_then(|hex| u32::from_str_radix(hex, 16).ok())
        else {
            continue;
        };
        if !std::path::Path::new(&format!("/proc/{}", id / 16)).exists() {
            remove(&name, TABLES + id);
        }
    }
}

fn ip(arguments: &str) {
    said(Command::new("ip").args(arguments.split(' ')));
}

fn nft(text: &str) {
    said(Command::new("nft").arg(text));
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn said(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {stdout}{stderr}");
    stdout.into_owned()
}
