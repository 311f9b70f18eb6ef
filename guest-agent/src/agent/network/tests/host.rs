//! On an interface of the kernel, in a network of the test's own: nothing of it can reach the host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agentvm_guest_agent::protocol::{GuestIpv6, GuestNetwork};

use super::*;

mod lease;

/// Runs on a thread that has a network of its own. This needs root.
fn in_own_network(test: impl FnOnce() + Send + 'static) {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes a network of its own: run it as root"
    );
    let own = || {
        crate::sys::own_network().unwrap();
        run("mount --make-rprivate /");
        run("mount -t sysfs sys /sys");
        crate::sys::loopback_up().unwrap();
        test();
    };
    std::thread::spawn(own).join().unwrap();
}

fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The other end of the machine's wire. It has a network of its own, too.
struct Gateway(Child);

impl Gateway {
    fn new() -> Self {
        let process =
            Command::new("unshare").args(["--net", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
        let gateway = Self(process);
        let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while network(&gateway.0.id().to_string()) == network("thread-self") {
            assert!(Instant::now() < deadline, "the gateway has no network of its own");
            std::thread::yield_now();
        }
        run(&format!(
            "ip link add eth0 type veth peer name far address {GATEWAY_MAC} netns {}",
            gateway.0.id()
        ));
        gateway.run(&format!("ip address add {GATEWAY}/24 dev far"));
        gateway.run("ip link set far up");
        gateway
    }

    fn run(&self, line: &str) -> String {
        run(&format!("nsenter --net=/proc/{}/ns/net {line}", self.0.id()))
    }

    fn frames(&self) -> u64 {
        self.run("cat /proc/net/dev")
            .lines()
            .find_map(|line| {
                line.trim().strip_prefix("far:")?.split_whitespace().nth(1)?.parse().ok()
            })
            .unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// No program listens there. A host that says so was reached.
fn is_reached(address: impl Into<IpAddr>) -> bool {
    let address: IpAddr = address.into();
    let answer =
        TcpStream::connect_timeout(&SocketAddr::from((address, 9)), Duration::from_secs(5));
    answer.is_err_and(|why| why.kind() == io::ErrorKind::ConnectionRefused)
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_machine_is_where_it_was_told_and_nowhere_before_and_after() {
    in_own_network(|| {
        let (gateway, mut network) = (Gateway::new(), Network::default());
        for last in [7, 8] {
            let began = Instant::now();
            network.join(&order(last)).unwrap();
            println!("measured: joining: {} us", began.elapsed().as_micros());
            let shown = run("ip -o address show dev eth0");
            assert!(shown.contains(&format!(" inet 203.0.113.{last}/24 ")), "{shown}");
            assert_eq!(shown.lines().count(), 1, "one address, and none of IPv6: {shown}");
            assert!(run("ip -o link show dev eth0").contains(&format!("52:54:00:00:01:0{last}")));
            assert_eq!(
                run("ip -4 route show default").trim(),
                "default via 203.0.113.1 dev eth0 proto static"
            );
            assert_eq!(
                run("ip neighbour show").trim(),
                format!("203.0.113.1 dev eth0 lladdr {GATEWAY_MAC} PERMANENT")
            );
            if last == 7 {
                assert_eq!(gateway.frames(), 0, "nothing is announced");
            }
            assert!(is_reached(GATEWAY));
            assert!(is_reached(Ipv4Addr::LOCALHOST));
        }
        network.leave().unwrap();
        network.leave().unwrap();
        let link = run("ip -o link show dev eth0");
        assert!(link.contains("state DOWN") && link.contains("02:00:00:00:00:00"), "{link}");
        for what in ["address show dev eth0", "route show", "neighbour show"] {
            assert_eq!(run(&format!("ip -o {what}")).trim(), "", "{what}");
        }
        assert!(!is_reached(GATEWAY));
    });
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn ipv6_is_one_address_that_was_ordered_and_nothing_else() {
    in_own_network(|| {
        let (gateway, mut network) = (Gateway::new(), Network::default());
        gateway.run("ip address add fd12::1/64 dev far nodad");
        let six = |last| {
            let place = |text: String| text.parse().unwrap();
            let ipv6 = GuestIpv6 {
                address: place(format!("fd12::{last}")),
                prefix: 64,
                gateway: place("fd12::1".into()),
            };
            GuestNetwork { ipv6: Some(ipv6), ..order(last) }
        };
        for last in [7, 8] {
            network.join(&six(last)).unwrap();
            let shown = run("ip -o -6 address show dev eth0");
            assert!(
                shown.contains(&format!(" inet6 fd12::{last}/64 ")) && !shown.contains("tentative"),
                "{shown}"
            );
            assert_eq!(shown.lines().count(), 1, "no link-local address: {shown}");
            let route = run("ip -6 route show default");
            assert!(route.starts_with("default via fd12::1 dev eth0 proto static"), "{route}");
            assert_eq!(
                run("ip -6 neighbour show").trim(),
                format!("fd12::1 dev eth0 lladdr {GATEWAY_MAC} PERMANENT")
            );
            assert!(is_reached("fd12::1".parse::<IpAddr>().unwrap()) && is_reached(GATEWAY));
        }
        assert_eq!(run("sysctl -n net.ipv6.conf.eth0.accept_ra").trim(), "0");
        network.join(&order(9)).unwrap();
        assert_eq!(run("ip -o -6 address show dev eth0").trim(), "");
        assert!(is_reached(GATEWAY));
        network.join(&six(7)).unwrap();
        network.leave().unwrap();
        for what in ["address show dev eth0", "-6 route show", "-6 neighbour show"] {
            assert_eq!(run(&format!("ip -o {what}")).trim(), "", "{what}");
        }
    });
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_network_without_an_interface_is_an_error_that_says_so() {
    in_own_network(|| {
        let why = Network::default().join(&order(7)).unwrap_err();
        assert!(matches!(why, NetworkError::NoInterface), "{why}");
        assert!(why.to_string().contains("give it a virtio NIC"));
        Network::default().leave().unwrap();
    });
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn addresses_that_others_left_go_too_and_what_fails_leaves_it_down() {
    in_own_network(|| {
        run("ip link add eth0 type veth peer name far");
        let mut network = Network::default();
        network.join(&order(7)).unwrap();
        for address in ["198.51.100.1/24", "198.51.100.2/24", "192.0.2.1/32"] {
            run(&format!("ip address add {address} dev eth0"));
        }
        network.join(&order(8)).unwrap();
        assert_eq!(run("ip -o -4 address show dev eth0").lines().count(), 1);
        // A broadcast address cannot be a gateway.
        let why = network
            .join(&GuestNetwork { gateway: Ipv4Addr::new(203, 0, 113, 255), ..order(9) })
            .unwrap_err();
        assert_eq!(why.to_string(), "adding the default route failed");
        assert!(!run("ip -o link show dev eth0").contains(",UP"), "left down");
        network.join(&order(9)).unwrap();
    });
}
