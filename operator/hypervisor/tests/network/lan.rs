//! A foreign network that machines are connected to: a bridge of the host with an address of the
//! host, another computer, and a router, which gives addresses and leads to the tests' internet.
//!
//! The router is the namespace of that internet. It also leads back to the host's other addresses:
//! a packet that is not stopped gets there, and is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use agentvm_core::names::InstanceId;
use agentvm_core::network::Subnet;
use ipnet::Ipv4Net;

use crate::ground::{HostServers, PATIENT, host_addresses};
use crate::lab::ip;
use agentvm_testing::networks::internet::{DNS, Internet, WEB};
use agentvm_testing::wait_until;

pub const ROUTER_MAC: &str = "52:54:00:02:02:01";
pub const HOST_MAC: &str = "52:54:00:02:02:02";
pub const NEAR_MAC: &str = "52:54:00:02:02:03";
/// The listeners beside the attacker.
pub const LISTENER: &str = include_str!("hears.py");

pub struct Lan<'a> {
    /// Its gateway is the router.
    pub subnet: Subnet,
    /// The host's address on it.
    pub host: Ipv4Addr,
    /// The computer beside.
    pub near: Ipv4Addr,
    internet: &'a Internet,
    instance: InstanceId,
    children: Vec<Child>,
    heard: tempfile::NamedTempFile,
    served: tempfile::NamedTempFile,
}

impl<'a> Lan<'a> {
    pub fn new(internet: &'a Internet, instance: &InstanceId) -> Self {
        let at = |host: u8| Ipv4Addr::new(172, 30, internet.number(), host);
        let [heard, served] = std::array::from_fn(|_| tempfile::NamedTempFile::new().unwrap());
        let mut this = Self {
            subnet: Subnet { bridge: format!("lan{instance}"), gateway: at(1), prefix: 24 },
            host: at(2),
            near: at(50),
            internet,
            instance: instance.clone(),
            children: Vec::new(),
            heard,
            served,
        };
        this.wire();
        this.serve();
        this.control();
        this
    }

    pub fn net(&self) -> Ipv4Net {
        self.subnet.net()
    }

    /// The host's end of the wire to the router.
    pub fn to_router(&self) -> String {
        format!("lnr{}", self.instance)
    }

    /// That of the wire to the computer beside.
    pub fn to_near(&self) -> String {
        format!("lnc{}", self.instance)
    }

    /// Where the computer beside is.
    fn computer(&self) -> String {
        format!("avl{}", self.instance)
    }

    fn wire(&self) {
        let Self { subnet: Subnet { bridge, gateway, .. }, host, near, internet, .. } = self;
        let (router, computer) = (internet.namespace(), self.computer());
        ip(&format!("link add {bridge} address {HOST_MAC} type bridge forward_delay 0"));
        ip(&format!("addr add {host}/24 dev {bridge}"));
        ip(&format!("link set {bridge} up"));
        ip(&format!("netns add {computer}"));
        ip(&format!("-n {computer} link set lo up"));
        for (wire, mac, namespace, address) in [
            (self.to_router(), ROUTER_MAC, router, gateway),
            (self.to_near(), NEAR_MAC, computer.as_str(), near),
        ] {
            ip(&format!("link add {wire} type veth peer name lan address {mac} netns {namespace}"));
            ip(&format!("link set {wire} master {bridge}"));
            ip(&format!("link set {wire} up"));
            ip(&format!("-n {namespace} addr add {address}/24 dev lan"));
            ip(&format!("-n {namespace} link set lan up"));
        }
        ip(&format!("-n {computer} route add default via {gateway}"));
        // A machine that uses the host as its router does not get to the real world either.
        internet.attach(bridge, &self.net().to_string());
        internet.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        for address in host_addresses().iter().filter(|address| !self.net().contains(*address)) {
            ip(&format!("-n {router} route replace {address}/32 dev net"));
        }
    }

    fn serve(&mut self) {
        let [first, last] =
            [100, 120].map(|host| Ipv4Addr::from(u32::from(self.net().network()) + host));
        let addresses = format!("--dhcp-range={first},{last},255.255.255.0,1h");
        let names = format!("--dhcp-option=option:dns-server,{DNS}");
        let server = [
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--interface=lan",
            "--bind-interfaces",
            "--no-ping",
            "--user=root",
            "--dhcp-authoritative",
            "--leasefile-ro",
            "--pid-file=",
            "--log-facility=-",
            &addresses,
            &names,
        ];
        let listener = ["python3", "-c", LISTENER];
        let (router, computer) = (self.internet.namespace().to_owned(), self.computer());
        for (namespace, command, log) in
            [(router, &server[..], &self.served), (computer, &listener[..], &self.heard)]
        {
            let mut child = Command::new("ip");
            child.args(["netns", "exec", &namespace]).args(command).stdin(Stdio::null());
            child.stdout(log.reopen().unwrap()).stderr(log.reopen().unwrap());
            self.children.push(child.spawn().unwrap());
        }
        let says = |log: &tempfile::NamedTempFile, what: &str| {
            std::fs::read_to_string(log.path()).unwrap().contains(what)
        };
        wait_until("a DHCP server", || says(&self.served, "DHCP, IP range"));
        wait_until("a listener", || says(&self.heard, "heard 127.0.0.1"));
    }

    /// From here, all is reached that machines are not to reach.
    fn control(&self) {
        let servers = HostServers::new();
        let addresses = host_addresses();
        let pings = addresses
            .iter()
            .chain([&self.subnet.gateway, &WEB])
            .map(|address| format!("ping:{address}"));
        let ports = addresses.iter().map(|address| format!("tcp:{address}:{}", servers.tcp));
        let came = self.beside(&pings.chain(ports).collect::<Vec<_>>());
        let there = host_addresses();
        let gone = |what: &str| {
            addresses.iter().any(|one| what.contains(&format!(":{one}")) && !there.contains(one))
        };
        // An address that another test has removed meanwhile does not count. The servers hang up at
        // once.
        let silent: Vec<_> = came
            .iter()
            .filter(|(what, came)| !gone(what) && !["ok", "ECONNRESET"].contains(&came.as_str()))
            .collect();
        assert!(silent.is_empty(), "{silent:?}");
        assert!(servers.asked() > 1);
        self.acquaint();
    }

    /// Each knows the others, or there would be nothing to make it believe.
    fn acquaint(&self) {
        let pings =
            [self.subnet.gateway, self.host, self.near].map(|address| format!("ping:{address}"));
        let came =
            [reached(&["ip", "netns", "exec", &self.computer()], &pings), reached(&[], &pings)];
        let router = reached(&["ip", "netns", "exec", self.internet.namespace()], &pings);
        assert!(
            came.iter().chain([&router]).all(|came| came.values().all(|came| came == "ok")),
            "{came:?} {router:?}"
        );
    }

    /// Tries to reach all of these from the other computer; returns each outcome.
    pub fn beside(&self, what: &[String]) -> BTreeMap<String, String> {
        reached(&["ip", "netns", "exec", &self.computer()], what)
    }

    /// The senders that the other computer has heard, without itself.
    pub fn heard_beside(&self) -> Vec<String> {
        heard(&std::fs::read_to_string(self.heard.path()).unwrap())
    }

    /// The neighbour tables of the other computer and of the router.
    pub fn believed(&self) -> [String; 2] {
        [self.computer().as_str(), self.internet.namespace()].map(|namespace| {
            let output = Command::new("ip")
                .args(["-n", namespace, "-4", "neigh", "show", "dev", "lan"])
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        })
    }
}

/// Tries to reach all of these; returns each outcome. `who` is the command prefix.
fn reached(who: &[&str], what: &[String]) -> BTreeMap<String, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/network/connects.py");
    let command = [who, &["env", PATIENT, "python3", script]].concat();
    let output = Command::new(command[0]).args(&command[1..]).args(what).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let results = said.lines().filter_map(|line| line.split_once(' '));
    let results: BTreeMap<String, String> =
        results.map(|(what, came)| (what.to_owned(), came.to_owned())).collect();
    let asked: BTreeSet<_> = what.iter().collect();
    assert_eq!(
        results.keys().collect::<BTreeSet<_>>(),
        asked,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    results
}

/// The senders that [`LISTENER`] reports, without itself.
pub fn heard(said: &str) -> Vec<String> {
    let others =
        said.lines().filter(|line| line.starts_with("heard") && !line.contains(" 127.0.0.1"));
    others.map(str::to_owned).collect()
}

impl Drop for Lan<'_> {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.computer()]).output();
        for link in [self.to_router(), self.to_near(), self.subnet.bridge.clone()] {
            let _ = Command::new("ip").args(["link", "delete", &link]).output();
        }
    }
}
