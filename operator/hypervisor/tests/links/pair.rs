//! Two network namespaces on a bridge without our rules: one is behind a filter of libvirt's, the
//! other is its peer.

use std::process::Command;

use agentvm_core::network::{Mac, derive_mac};

/// The two addresses of the one behind the filter, and the other's.
pub const OWN: &str = "203.0.113.10";
pub const OTHER: &str = "203.0.113.11";
pub const PEER: &str = "203.0.113.20";
pub const OWN_V6: &str = "2001:db8::10";
pub const OTHER_V6: &str = "2001:db8::11";
pub const PEER_V6: &str = "2001:db8::20";

/// Connects to a port without a listener: a host that is reached refuses.
const REACH: &str = "
import socket, sys
try:
    socket.create_connection((sys.argv[2], 9), int(sys.argv[3]), (sys.argv[1], 0))
except ConnectionRefusedError:
    print('reached')
except OSError:
    pass
";

/// The seconds to wait for a host that must be reached, and for one that must not be. The second
/// time is short, because a host that is reached answers at once.
const LONG: u32 = 30;
const SHORT: u32 = 2;

pub struct Pair {
    /// The MAC that the filter takes for the machine's own.
    pub mac: Mac,
    bridge: String,
    /// The bridge's ends, and the namespaces behind them.
    ends: [String; 2],
}

impl Pair {
    pub fn new(letter: &str, peers_mac: Mac) -> Self {
        let bridge = format!("avmtp{:x}{letter}", std::process::id());
        let ends = ["0", "1"].map(|end| format!("{bridge}{end}"));
        let mac = derive_mac(&["own", &bridge]);
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("link set {bridge} up"));
        for (end, mac) in ends.iter().zip([mac, peers_mac]) {
            ip(&format!("netns add {end}"));
            ip(&format!("link add {end} type veth peer name eth0 address {mac} netns {end}"));
            ip(&format!("link set {end} master {bridge} up"));
            ip(&format!("-n {end} link set eth0 up"));
        }
        for (end, address) in [(0, OWN), (0, OTHER), (1, PEER)] {
            ip(&format!("-n {} addr add {address}/24 dev eth0", ends[end]));
        }
        for (end, address) in [(0, OWN_V6), (0, OTHER_V6), (1, PEER_V6)] {
            ip(&format!("-n {} -6 addr add {address}/64 dev eth0 nodad", ends[end]));
        }
        // There is no neighbour discovery there: each side knows the other.
        for (end, address, mac) in [(1, OWN_V6, mac), (1, OTHER_V6, mac), (0, PEER_V6, peers_mac)] {
            ip(&format!(
                "-n {} -6 neigh replace {address} lladdr {mac} nud permanent dev eth0",
                ends[end]
            ));
        }
        Self { mac, bridge, ends }
    }

    /// Has libvirt filter the first one's end, as it does a machine's.
    pub fn bind(&self, filter: &str, parameters: &[(&str, String)]) {
        let parameter =
            |(name, value): &(&str, String)| format!("<parameter name='{name}' value='{value}'/>");
        let parameters = parameters.iter().map(parameter).collect::<Vec<_>>().concat();
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "<filterbinding><owner><name>{0}</name>\
             <uuid>6a2f3b0e-0000-4000-8000-{1:012x}</uuid></owner><portdev name='{0}'/>\
             <mac address='{2}'/><filterref \
             filter='{filter}'>{parameters}</filterref></filterbinding>",
            self.ends[0],
            std::process::id(),
            self.mac,
        );
        std::fs::write(file.path(), text).unwrap();
        let virsh = ["-q", "-c", "qemu:///system", "nwfilter-binding-create"];
        // ebtables fails now and then while other tests change rules of theirs.
        let bind = || Command::new("virsh").args(virsh).arg(file.path()).output().unwrap();
        let done = (0..10).map(|_| bind()).find(|output| output.status.success());
        assert!(done.is_some(), "{}", String::from_utf8_lossy(&bind().stderr));
    }

    /// The one behind the filter reaches the other.
    pub fn reaches(&self, from: &str, to: &str) -> bool {
        reaches(&self.ends[0], from, to, LONG)
    }

    /// The one behind the filter does not reach the other.
    pub fn is_stopped(&self, from: &str, to: &str) -> bool {
        !reaches(&self.ends[0], from, to, SHORT)
    }

    /// The other reaches it.
    pub fn is_reached(&self, at: &str) -> bool {
        reaches(&self.ends[1], PEER, at, LONG)
    }

    /// The other does not reach it.
    pub fn is_spared(&self, at: &str) -> bool {
        !reaches(&self.ends[1], PEER, at, SHORT)
    }

    pub fn set_mac(&self, mac: Mac) {
        self.set(0, mac);
    }

    pub fn set_peers_mac(&self, mac: Mac) {
        self.set(1, mac);
    }

    /// No host may remember the previous one.
    fn set(&self, end: usize, mac: Mac) {
        ip(&format!("-n {} link set eth0 address {mac}", self.ends[end]));
        for end in &self.ends {
            ip(&format!("-n {end} neigh flush all"));
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let virsh = ["-q", "-c", "qemu:///system", "nwfilter-binding-delete"];
        let _ = Command::new("virsh").args(virsh).arg(&self.ends[0]).output();
        for end in &self.ends {
            let _ = Command::new("ip").args(["netns", "delete", end]).output();
        }
        let _ = Command::new("ip").args(["link", "delete", &self.bridge]).output();
    }
}

fn reaches(namespace: &str, from: &str, to: &str, seconds: u32) -> bool {
    let arguments =
        ["netns", "exec", namespace, "python3", "-c", REACH, from, to, &seconds.to_string()];
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    !output.stdout.is_empty()
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
