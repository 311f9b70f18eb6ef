//! A QEMU that was taken over has no use of the host's network: a process of its user tries, in a
//! network namespace.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as it should be"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use agentvm_core::names::InstanceId;
use agentvm_core::network::Subnet;

use agentvm_hypervisor::Firewall;

#[path = "../src/firewall/in_test_namespace.rs"]
mod in_test_namespace;
#[path = "stranger/mod.rs"]
mod stranger;

use in_test_namespace::inside;

const FIRST: u32 = 2_100_000_000;
const LAST: u32 = 2_100_065_535;
/// The namespace has these addresses only: on loopback, on a bridge of the host, and one of IPv6.
const ADDRESSES: [&str; 3] = ["127.0.0.1", "203.0.113.9", "::1"];
/// The patience with a packet that has no way to go.
const MOMENT: Duration = Duration::from_millis(300);

/// Runs the test again, alone in a network namespace. `true`: this is that run.
fn alone(test: &str) -> bool {
    inside(module_path!(), test, &[])
}

fn firewall() -> Arc<Firewall> {
    let setup = "ip link set lo up; ip link add lab0 type bridge; ip addr add 203.0.113.9/24 dev \
        lab0; ip link set lab0 up";
    assert!(Command::new("sh").args(["-ec", setup]).status().unwrap().success());
    Arc::new(Firewall::confining(&InstanceId::for_state_dir("/firewall-test"), Some(FIRST..=LAST)))
}

/// The listeners that a user reaches: for each address TCP and UDP.
fn reaches(user: u32) -> Vec<bool> {
    let listeners = ADDRESSES.map(|at| {
        let tcp = TcpListener::bind((at, 0)).unwrap();
        let udp = UdpSocket::bind(tcp.local_addr().unwrap()).unwrap();
        (tcp, udp)
    });
    let mut process = stranger::spawn(user, user);
    let mut stdin = process.stdin.take().unwrap();
    for (tcp, _) in &listeners {
        let at = tcp.local_addr().unwrap();
        write!(stdin, "udp {at}\ntcp {at}\n").unwrap();
    }
    drop(stdin);
    let mut said = String::new();
    process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    let tried = said.lines().filter(|line| line.starts_with("tried ")).count();
    assert!(process.wait().unwrap().success() && tried == 2 * listeners.len(), "{said}");
    // The process has ended: a packet that is not here by now does not come.
    let came = listeners.iter().flat_map(|(tcp, udp)| {
        tcp.set_nonblocking(true).unwrap();
        udp.set_nonblocking(true).unwrap();
        [tcp.accept().is_ok(), udp.recv(&mut [0]).is_ok()]
    });
    came.collect()
}

#[test]
fn a_machine_s_user_reaches_no_address_of_the_host_and_others_do() {
    if !alone("a_machine_s_user_reaches_no_address_of_the_host_and_others_do") {
        return;
    }
    let firewall = firewall();
    assert_eq!(reaches(FIRST), [true; 6], "the control");
    firewall.confine_qemu();
    for (user, reached) in
        [(FIRST, false), (LAST, false), (FIRST - 1, true), (LAST + 1, true), (0, true)]
    {
        assert_eq!(reaches(user), [reached; 6], "{user}");
    }
    firewall.remove().unwrap();
    assert_eq!(reaches(FIRST), [true; 6], "nothing is left of it");
    let subnet = Subnet { bridge: "lab0".into(), gateway: [203, 0, 113, 9].into(), prefix: 24 };
    firewall.guard(&subnet).unwrap();
    firewall.confine_qemu();
    assert_eq!((reaches(LAST), reaches(0)), (vec![false; 6], vec![true; 6]));
}

#[test]
fn a_connection_that_is_there_ends_too() {
    if !alone("a_connection_that_is_there_ends_too") {
        return;
    }
    let (firewall, listener) = (firewall(), TcpListener::bind("127.0.0.1:0").unwrap());
    let mut process = stranger::spawn(FIRST, FIRST);
    let mut stdin = process.stdin.take().unwrap();
    writeln!(stdin, "talk {}", listener.local_addr().unwrap()).unwrap();
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut talks = || {
        stdin.write_all(b"\n").unwrap();
        assert!(said.any(|line| line.unwrap().ends_with("said")), "it has ended");
    };
    talks();
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(MOMENT)).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 1, "the control");
    firewall.confine_qemu();
    talks();
    assert!(stream.read(&mut [0]).is_err(), "something came");
    process.kill().unwrap();
    process.wait().unwrap();
}
