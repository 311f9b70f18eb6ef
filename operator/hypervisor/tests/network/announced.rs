//! A host that has its IPv6 route by a router's announcements is not cut off for a pool that asks
//! for IPv6.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;

use agentvm_core::names::InstanceId;
use agentvm_core::network::{Subnet, gateway6, ula};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::lab::ip;
use agentvm_testing::wait_until;

const SETTINGS: &str = "/proc/sys/net/ipv6/conf";
/// A router with a prefix for an hour: `icmp6`, without its checksum, which the kernel writes.
const ANNOUNCE: &str = "import socket, struct\n\
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)\n\
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)\n\
    prefix = struct.pack('!BBBBIII', 3, 4, 64, 0xc0, 3600, 3600, 0) + \
    socket.inet_pton(socket.AF_INET6, '2001:db8:1::')\n\
    s.sendto(struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0) + prefix, ('ff02::1', 0, 0, \
    socket.if_nametoindex('far')))";

/// A host and its router, each a namespace.
struct Announced(String);

impl Announced {
    fn new() -> Self {
        let this = Self(format!("avr{:x}", std::process::id()));
        let (host, router) = (this.host(), this.router());
        for namespace in [&host, &router] {
            ip(&format!("netns add {namespace}"));
            ip(&format!("-n {namespace} link set lo up"));
        }
        ip(&format!("-n {host} link add up0 type veth peer name far netns {router}"));
        ip(&format!("-n {host} link add lab0 type bridge"));
        for (namespace, link) in [(&host, "up0"), (&host, "lab0"), (&router, "far")] {
            ip(&format!("-n {namespace} link set {link} up"));
        }
        this
    }

    fn host(&self) -> String {
        format!("{}h", self.0)
    }

    fn router(&self) -> String {
        format!("{}r", self.0)
    }

    fn routes(&self) -> String {
        let output = Command::new("ip").args(["-n", &self.host(), "-6", "route"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Until the host has heard it: links take a moment to come up.
    fn announce(&self) {
        wait_until("a route by an announcement", || {
            let router = self.router();
            let _ = Command::new("ip")
                .args(["netns", "exec", &router, "python3", "-c", ANNOUNCE])
                .output()
                .unwrap();
            self.routes().contains("default via fe80")
        });
    }

    /// On a thread that is in there, and ends.
    fn on_host<T: Send + 'static>(&self, does: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.host())).unwrap();
        let inside = std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            does()
        });
        inside.join().unwrap()
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        for namespace in [self.host(), self.router()] {
            let _ = Command::new("ip").args(["netns", "delete", &namespace]).output();
        }
    }
}

#[test]
fn a_host_that_lives_by_announcements_keeps_its_route() {
    let net = Announced::new();
    net.announce();
    let instance = InstanceId::for_state_dir("announced");
    let subnet =
        || Subnet { bridge: "lab0".into(), gateway: Ipv4Addr::new(192, 168, 101, 1), prefix: 24 };
    let ask = |net: &Announced| {
        let (instance, subnet) = (instance.clone(), subnet());
        net.on_host(move || {
            agentvm_hypervisor::ipv6::ensure(&instance, &subnet).map_err(|why| why.to_string())
        })
    };
    let why = ask(&net).unwrap_err();
    assert!(
        why.contains("interface up0") && why.contains("net.ipv6.conf.up0.accept_ra=2"),
        "{why}"
    );
    assert!(net.routes().contains("default via fe80"), "{}", net.routes());

    net.on_host(|| fs::write(format!("{SETTINGS}/up0/accept_ra"), "2").unwrap());
    ask(&net).unwrap();
    ask(&net).unwrap();
    assert!(net.routes().contains("default via fe80"), "it listens all the same: {}", net.routes());
    let settings = ["all/forwarding", "lab0/accept_ra", "lab0/autoconf", "lab0/disable_ipv6"];
    let now = net.on_host(move || {
        settings.map(|setting| {
            fs::read_to_string(format!("{SETTINGS}/{setting}")).unwrap().trim().to_owned()
        })
    });
    assert_eq!(now, ["1", "0", "0", "0"]);
    let shown = |what: &str| {
        let arguments = ["-n", &net.host(), "-6", "-o"]
            .map(str::to_owned)
            .into_iter()
            .chain(what.split(' ').map(str::to_owned));
        String::from_utf8(Command::new("ip").args(arguments).output().unwrap().stdout).unwrap()
    };
    let gateway = gateway6(ula(&instance)).to_string();
    assert!(
        shown("addr show dev lab0").contains(&format!("inet6 {gateway}/64")),
        "{}",
        shown("addr show dev lab0")
    );
    assert_eq!(
        shown("neigh show dev lab0 nud permanent").lines().count(),
        subnet().machines().count()
    );

    // The address is taken away. The next call sets it again.
    ip(&format!("-n {} addr del {gateway}/64 dev lab0", net.host()));
    ask(&net).unwrap();
    assert!(shown("addr show dev lab0").contains(&gateway));
}
