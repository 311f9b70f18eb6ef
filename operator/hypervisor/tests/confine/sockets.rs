//! A QEMU that was taken over is a process on the host and its network. The test becomes its user,
//! and knocks where root gets an answer.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use agentvm_testing::holds_within;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::strangers::{Tried, outcome, try_as};

/// The address of the other namespace, which plays a machine beside the host, and the host's
/// address on the wire to it.
const BESIDE: &str = "203.0.113.201";
const OWN: &str = "203.0.113.202";
const OWN_V6: &str = "2001:db8::202";

/// Listens at an address, TCP and UDP at the same port.
struct Listener {
    at: SocketAddr,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Listener {
    fn new(address: &str) -> Self {
        let tcp = TcpListener::bind((address, 0)).unwrap();
        let at = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(at).unwrap();
        tcp.set_nonblocking(true).unwrap();
        udp.set_nonblocking(true).unwrap();
        Self { at, tcp, udp }
    }

    /// The visitors since the last question, by TCP and by UDP.
    fn came(&self) -> [bool; 2] {
        [self.tcp.accept().is_ok(), self.udp.recv(&mut [0]).is_ok()]
    }
}

/// A namespace at the end of a wire; gone with the value.
struct Beside(String);

impl Beside {
    fn new() -> Self {
        let this = Self(format!("avtq{:x}", std::process::id()));
        let name = &this.0;
        ip(&format!("netns add {name}"));
        ip(&format!("link add {name} type veth peer name net netns {name}"));
        ip(&format!("addr add {OWN}/32 dev {name}"));
        ip(&format!("-6 addr add {OWN_V6}/128 dev {name} nodad"));
        ip(&format!("link set {name} up"));
        ip(&format!("-n {name} addr add {BESIDE}/32 dev net"));
        ip(&format!("-n {name} link set net up"));
        ip(&format!("-n {name} route add {OWN}/32 dev net"));
        ip(&format!("route add {BESIDE}/32 dev {name} src {OWN}"));
        this
    }

    /// A socket stays in the namespace of the thread that made it.
    fn listener(&self) -> Listener {
        let namespace = File::open(format!("/run/netns/{}", self.0)).unwrap();
        let inside = std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            Listener::new(BESIDE)
        });
        inside.join().unwrap()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", &self.0]).output();
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).output();
    }
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// `qemu`: the process of a machine that runs, with a network or without.
pub fn lead_nowhere(qemu: u32) {
    let beside = Beside::new();
    let own = ["127.0.0.1", "::1", OWN, OWN_V6].into_iter().map(Listener::new);
    let listeners: Vec<Listener> = own.chain([beside.listener()]).collect();
    let attempts: Vec<String> = listeners
        .iter()
        .flat_map(|listener| ["tcp", "udp"].map(|verb| format!("{verb} {}", listener.at)))
        .collect();
    let root = try_as(std::process::id(), &attempts);
    assert_eq!(outcome(&root, true), Vec::<&Tried>::new(), "the control: root is let through");
    for listener in &listeners {
        let mut came = [false; 2];
        let both = holds_within(Duration::from_secs(5), || {
            let [tcp, udp] = listener.came();
            came = [came[0] || tcp, came[1] || udp];
            came == [true; 2]
        });
        assert!(both, "the control: {} hears root, {came:?}", listener.at);
    }
    let taken_over = try_as(qemu, &attempts);
    assert_eq!(outcome(&taken_over, false), Vec::<&Tried>::new(), "as a machine's QEMU");
    for listener in &listeners {
        assert_eq!(listener.came(), [false; 2], "{} heard something", listener.at);
    }
}
