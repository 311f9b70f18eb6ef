//! With a DHCP server of the host's own at the other end of the wire.

use agentvm_guest_agent::protocol::GuestLease;

use super::*;

/// A server with these addresses to give; it ends with the test.
struct Server(Child);

impl Server {
    fn new(gateway: &Gateway, first: &str, last: &str) -> Self {
        let net = format!("--net=/proc/{}/ns/net", gateway.0.id());
        let range = format!("--dhcp-range={first},{last},255.255.255.0,2m");
        let mut command = Command::new("nsenter");
        command.args([
            net.as_str(),
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
        ]);
        command.args([
            "--interface=far",
            "--bind-interfaces",
            "--no-ping",
            "--dhcp-authoritative",
            "--leasefile-ro",
        ]);
        command.args([
            "--user=root",
            "--pid-file=",
            "--log-facility=-",
            "--dhcp-option=6,203.0.113.53",
            &range,
        ]);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lease(last: u8, patience_millis: u64, resolvers: &[Ipv4Addr]) -> GuestLease {
    GuestLease {
        mac: order(last).mac,
        resolvers: resolvers.to_vec(),
        time_unix_nanos: 0,
        patience_millis,
    }
}

/// It runs on this thread, which has a network of its own.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_machine_has_what_a_server_gives_it_and_nothing_afterwards() {
    in_own_network(|| {
        wait(async {
            let (gateway, mut network) = (Gateway::new(), Network::default());
            let server = Server::new(&gateway, "203.0.113.50", "203.0.113.59");
            let began = Instant::now();
            let (address, resolvers) = network.lease(&lease(7, 20_000, &[])).await.unwrap();
            println!("measured: a lease: {} us", began.elapsed().as_micros());
            assert!((50..60).contains(&address.octets()[3]), "{address}");
            assert_eq!(resolvers, [Ipv4Addr::new(203, 0, 113, 53)]);
            let shown = run("ip -o address show dev eth0");
            assert!(
                shown.contains(&format!(" inet {address}/24 ")) && shown.lines().count() == 1,
                "{shown}"
            );
            assert_eq!(
                run("ip -4 route show default").trim(),
                "default via 203.0.113.1 dev eth0 proto static"
            );
            assert!(is_reached(GATEWAY));
            let frames = gateway.frames();
            let own = [Ipv4Addr::new(203, 0, 113, 54)];
            let again = network.lease(&lease(7, 20_000, &own)).await.unwrap();
            assert_eq!(
                (again.0, again.1.as_slice()),
                (address, &own[..]),
                "the pool's resolvers come first"
            );
            assert_eq!(gateway.frames(), frames, "a good lease is not asked about");
            // Another machine gets another one, and the interface has that alone.
            let (other, _) = network.lease(&lease(8, 20_000, &[])).await.unwrap();
            assert_ne!(other, address);
            assert_eq!(run("ip -o -4 address show dev eth0").lines().count(), 1);
            network.leave().unwrap();
            assert_eq!(run("ip -o -4 address show dev eth0").trim(), "");
            assert!(timeout_of(network.keep_lease()).await, "nobody asks for anything any more");
            drop(server);
        });
    });
}

async fn timeout_of(never: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(Duration::from_millis(10), never).await.is_err()
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn without_a_server_it_says_so_and_has_nothing() {
    in_own_network(|| {
        wait(async {
            let (_gateway, mut network) = (Gateway::new(), Network::default());
            let why = network.lease(&lease(7, 1500, &[])).await.unwrap_err().to_string();
            assert!(
                why.contains(
                    "no DHCP server gave this machine an address within 1 s: none answered"
                ),
                "{why}"
            );
            assert_eq!(run("ip -o -4 address show dev eth0").trim(), "");
            network.leave().unwrap();
            // The error says that the port is in use.
            let _taken = std::net::UdpSocket::bind("0.0.0.0:68").unwrap();
            let why = network.lease(&lease(8, 100, &[])).await.unwrap_err().to_string();
            assert!(why.contains("nothing could be sent: Address already in use"), "{why}");
        });
    });
}
