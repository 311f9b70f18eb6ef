//! The controls: behind every forbidden address there is a server that answers, and the test sees
//! that it is asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use agentvm_testing::networks::internet::offers::{GitServer, IN_REPOSITORY, REPOSITORY};
use agentvm_testing::networks::internet::{
    DNS, ICMP, Internet, NODE, NODE_V6, NOT_NODE, NOWHERE_V6, PORTS, PRIVATE, PRIVATE_V6, TCP, UDP,
    WEB, WEB_V6,
};
use agentvm_testing::{PATIENCE, holds_within};

/// Asks from the host, by the wire: the address that says it was reached.
fn who(internet: &Internet, at: SocketAddr) -> String {
    let ask = "import socket, sys\n\
        s = socket.socket(socket.AF_INET6 if ':' in sys.argv[2] else socket.AF_INET)\n\
        s.settimeout(30); s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, \
        sys.argv[1].encode())\n\
        s.connect((sys.argv[2], int(sys.argv[3]))); s.sendall(b'who\\n'); \
        print(s.recv(100).decode())";
    let (link, address, port) = (internet.link(), at.ip().to_string(), at.port().to_string());
    let output =
        Command::new("python3").args(["-c", ask, &link, &address, &port]).output().unwrap();
    assert!(output.status.success(), "{at}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().replace("::ffff:", "").replace(['[', ']'], "")
}

#[test]
fn somebody_answers_at_every_address() {
    let internet = Internet::new();
    for address in [WEB, NODE, NOT_NODE].into_iter().chain(PRIVATE) {
        let at = SocketAddr::from((address, 80));
        assert_eq!(who(&internet, at), at.to_string());
        assert!(internet.seen.until(TCP, address, 80), "{address} was seen to be asked");
    }
    for port in PORTS {
        let at = SocketAddr::from((WEB, port));
        assert_eq!(who(&internet, at), at.to_string());
    }
    let private: IpAddr = PRIVATE_V6.parse().unwrap();
    let nowhere = NOWHERE_V6.iter().map(|address| address.parse::<IpAddr>().unwrap());
    for address in [private, WEB_V6.into(), NODE_V6.into()].into_iter().chain(nowhere) {
        assert_eq!(who(&internet, SocketAddr::from((address, 80))), format!("{address}:80"));
        assert!(internet.seen.until(TCP, address, 80), "{address} was seen to be asked");
    }
}

#[test]
fn names_are_answered() {
    let internet = Internet::new();
    let ask = "import socket, struct, sys\n\
        q = lambda n: b'\\1\\2\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0' + b''.join(bytes([len(l)]) + \
        l.encode() for l in n.split('.')) + b'\\0\\0\\1\\0\\1'\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(30)\n\
        for n in sys.argv[2:]:\n  s.sendto(q(n), (sys.argv[1], 53)); a = s.recv(512); print(a[3] & \
        15, socket.inet_ntoa(a[-4:]))\n\
        t = socket.create_connection((sys.argv[1], 53)); m = q('web.test'); \
        t.sendall(struct.pack('!H', len(m)) + m); print(len(t.recv(512)))";
    let said = internet.run(
        "python3",
        &["-c", ask, &DNS.to_string(), "web.test", "metadata.google.internal", "nothing.test"],
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["0 203.0.113.80", "0 169.254.169.254"]);
    assert!(lines[2].starts_with("3 ") && lines[3] != "0", "{said}");
    assert!(internet.seen.until(UDP, DNS, 53));
}

#[test]
fn pages_are_served_and_pings_answered() {
    let internet = Internet::new();
    internet.pages.put("/hello", "text/plain", "hello");
    let link = internet.link();
    let get = Command::new("curl")
        .args(["-sS", "--interface", &link, "http://203.0.113.80/hello"])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&get.stdout),
        "hello",
        "{}",
        String::from_utf8_lossy(&get.stderr)
    );
    let echo = "import socket, struct, sys\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); s.settimeout(30)\n\
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[1].encode())\n\
        s.sendto(struct.pack('!BBHHH', 8, 0, 0xf7fd, 1, 1), (sys.argv[2], 0)); \
        print(s.recv(100)[20])";
    let ping =
        Command::new("python3").args(["-c", echo, &link, &WEB.to_string()]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&ping.stdout).trim(),
        "0",
        "{}",
        String::from_utf8_lossy(&ping.stderr)
    );
    assert!(internet.seen.until(ICMP, WEB, 0));
}

/// The host's own pip, npm and git use the test internet.
#[test]
fn packages_and_a_repository_are_offered() {
    let internet = Internet::new();
    internet.offer_packages();
    let server = GitServer::new(&internet);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("known"), server.host()).unwrap();
    std::fs::write(at("resolv.conf"), format!("nameserver {DNS}\n")).unwrap();
    std::fs::write(at("key"), server.key()).unwrap();
    std::fs::set_permissions(at("key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let clone = format!(
        "mount --bind {} /etc/resolv.conf; GIT_SSH_COMMAND='ssh -i {} -o UserKnownHostsFile={}' \
            git clone -q {REPOSITORY} {} && cat {}/file; \
         curl -sf http://registry.test/simple/tiny-agent/ http://registry.test/tiny-tool",
        at("resolv.conf"),
        at("key"),
        at("known"),
        at("clone"),
        at("clone")
    );
    let said = internet.run("sh", &["-c", &clone]);
    assert!(
        said.starts_with(IN_REPOSITORY) && said.contains("any.whl") && said.contains("sha512-"),
        "{said}"
    );
}

/// Whatever the rules under test pass, no packet goes on to the real network.
#[test]
fn what_comes_from_the_bridge_is_routed_here() {
    let internet = Internet::new();
    let bridge = Bridge::new(format!("{}b", internet.namespace()));
    internet.attach(&bridge.0, "192.0.2.128/30");
    let routed = |to: Ipv4Addr| {
        let output = Command::new("ip").args(["-4", "rule", "show"]).output().unwrap();
        let rules = String::from_utf8_lossy(&output.stdout).into_owned();
        let rule = rules
            .lines()
            .find(|line| line.contains(&format!("iif {}", bridge.0)))
            .unwrap()
            .to_owned();
        let table = rule.split("lookup ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        let output = Command::new("ip")
            .args(["route", "show", "table", &table, "match", &to.to_string()])
            .output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    };
    assert!(routed(Ipv4Addr::new(9, 9, 9, 9)).contains(&internet.link()));
    assert_eq!(internet.escaped(), 0);
}

struct Bridge(String);

impl Bridge {
    fn new(name: String) -> Self {
        assert!(
            Command::new("ip")
                .args(["link", "add", &name, "type", "bridge"])
                .status()
                .unwrap()
                .success()
        );
        assert!(Command::new("ip").args(["link", "set", &name, "up"]).status().unwrap().success());
        Self(name)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", &self.0]).output();
    }
}

/// All traces of a test internet on the host.
fn traces(name: &str) -> String {
    let shown = [
        ["ip", "link"].as_slice(),
        &["ip", "netns"],
        &["ip", "-4", "rule"],
        &["ip", "-6", "rule"],
        &["ip", "route", "show", "table", "all"],
        &["nft", "list", "tables"],
    ];
    let text = shown.iter().map(|command| {
        let output = Command::new(command[0]).args(&command[1..]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    });
    text.collect::<String>()
        .lines()
        .filter(|line| line.contains(name))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn nothing_stays_also_after_a_panic() {
    let (name, table) = std::thread::spawn(|| {
        let internet = Internet::new();
        let name = internet.namespace().to_owned();
        let rules = traces(&internet.link());
        let table =
            rules.lines().find_map(|line| line.split_once("lookup ")).unwrap().1.trim().to_owned();
        assert!(rules.lines().count() >= 4, "{rules}");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = internet;
            panic!("as a failed assertion does");
        }));
        assert!(panicked.is_err());
        (name, table)
    })
    .join()
    .unwrap();
    let gone = holds_within(PATIENCE, || traces(&name).is_empty() && traces(&table).is_empty());
    assert!(gone, "{}\n{}", traces(&name), traces(&table));
}
