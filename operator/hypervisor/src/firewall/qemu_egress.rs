//! A rule of the installation's table that keeps machines' QEMU processes from every network. Hosts
//! without a machine that has a network get it too.

use agentvm_core::network::rules;

use super::Firewall;
use crate::locks::lock;

impl Firewall {
    /// Before a machine without a network starts; for other machines, [`Self::guard`] does it. Such
    /// a machine needs no nft, so a missing nft stops nothing: one warning says it. The rule is
    /// written each time, because no thread watches it here.
    pub fn confine_qemu(&self) {
        let Some(users) = self.rules.qemu_users() else { return };
        let state = lock(&self.state);
        if state.made {
            return;
        }
        if let Err(why) = self
            .rules
            .nft()
            .run("keep QEMU from the host's network", &rules::write_qemu_only(self.table(), users))
        {
            self.unconfined.call_once(|| {
                tracing::warn!(
                    error = &why as &dyn std::error::Error,
                    "a QEMU that was taken over could use the host's network: the rule against it can't be set"
                );
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::time::Duration;

    use agentvm_core::names::InstanceId;
    use agentvm_core::network::Subnet;

    use super::*;
    use crate::firewall::in_test_namespace::inside;

    const FIRST: u32 = 2_100_000_000;
    const LAST: u32 = 2_100_065_535;
    /// Nobody else's in here: on loopback, on a bridge of the host, of IPv6.
    const ADDRESSES: [&str; 3] = ["127.0.0.1", "203.0.113.9", "::1"];
    const TRIES: &str = "AGENTVM_TEST_QEMU_TRIES";
    const TALKS: &str = "AGENTVM_TEST_QEMU_TALKS";
    /// How long a packet may take that has no way to go.
    const MOMENT: Duration = Duration::from_millis(300);

    /// Runs the test again, alone in a network namespace. `true`: this is that run.
    fn alone(test: &str) -> bool {
        inside(module_path!(), test, &[])
    }

    fn firewall() -> Arc<Firewall> {
        let setup = "ip link set lo up; ip link add lab0 type bridge; ip addr add 203.0.113.9/24 dev lab0; ip link set lab0 up";
        assert!(Command::new("sh").args(["-ec", setup]).status().unwrap().success());
        Arc::new(Firewall::confining(
            &InstanceId::for_state_dir("/firewall-test"),
            Some(FIRST..=LAST),
        ))
    }

    fn as_user(user: u32, variable: &str, value: &str) -> Child {
        let mut command = Command::new("/proc/self/exe");
        command
            .args(["--exact", "firewall::qemu_egress::tests::as_another_user", "--nocapture"])
            .env(variable, value);
        command.uid(user).gid(user).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    }

    /// Runs in a process of another user, where another test has said in the environment what it does.
    #[test]
    fn as_another_user() {
        let addresses = |name: &str| {
            std::env::var(name).ok().map(|text| {
                text.split(' ').map(|at| at.parse::<SocketAddr>().unwrap()).collect::<Vec<_>>()
            })
        };
        for at in addresses(TRIES).unwrap_or_default() {
            let own = if at.is_ipv4() {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                Ipv6Addr::UNSPECIFIED.into()
            };
            let socket = UdpSocket::bind(SocketAddr::new(own, 0)).unwrap();
            let _ = socket.send_to(b"x", at);
            let _ = TcpStream::connect_timeout(&at, MOMENT);
        }
        for at in addresses(TALKS).unwrap_or_default() {
            let mut stream = TcpStream::connect(at).unwrap();
            for _ in std::io::stdin().lines() {
                let _ = stream.write_all(b"x");
                println!("said");
            }
        }
    }

    /// What a user reaches of the listeners: of each address TCP and UDP.
    fn reaches(user: u32) -> Vec<bool> {
        let listeners = ADDRESSES.map(|at| {
            let tcp = TcpListener::bind((at, 0)).unwrap();
            let udp = UdpSocket::bind(tcp.local_addr().unwrap()).unwrap();
            (tcp, udp)
        });
        let at: Vec<String> =
            listeners.iter().map(|(tcp, _)| tcp.local_addr().unwrap().to_string()).collect();
        let mut process = as_user(user, TRIES, &at.join(" "));
        let mut said = String::new();
        process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(process.wait().unwrap().success() && said.contains("1 passed"), "{said}");
        // It has ended: what isn't here by now doesn't come.
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
        let mut process = as_user(FIRST, TALKS, &listener.local_addr().unwrap().to_string());
        let mut stdin = process.stdin.take().unwrap();
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
}
