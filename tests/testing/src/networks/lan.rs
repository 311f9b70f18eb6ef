//! A foreign network: a bridge of the host, and behind it a namespace with a server that gives
//! addresses and knows a name.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::holds_within;

/// The machine that everything of it runs on.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Known here and nowhere else.
pub const NAME: &str = "somebody.test";

/// The time in which the server's log shows what the server did.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

pub struct Lan {
    pub bridge: String,
    namespace: String,
    server: Option<Child>,
    log: tempfile::NamedTempFile,
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Lan {
    /// `name`: of an installation's own. `resolver`: another address of the server.
    pub fn new(name: &str, resolver: Ipv4Addr) -> Self {
        let (bridge, namespace) = (format!("lan{name}"), format!("avl{name}"));
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut this = Self { bridge, namespace, server: None, log };
        let Self { bridge, namespace, .. } = &this;
        ip(&format!("netns add {namespace}"));
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("link add lnv{name} type veth peer name lan netns {namespace}"));
        ip(&format!("link set lnv{name} master {bridge}"));
        ip(&format!("link set lnv{name} up"));
        ip(&format!("link set {bridge} up"));
        ip(&format!("-n {namespace} addr add {SERVER}/24 dev lan"));
        ip(&format!("-n {namespace} addr add {resolver}/32 dev lan"));
        ip(&format!("-n {namespace} link set lan up"));
        this.serve();
        this
    }

    fn serve(&mut self) {
        let range = "--dhcp-range=203.0.113.100,203.0.113.120,255.255.255.0,2m";
        let address = format!("--address=/{NAME}/{SERVER}");
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            &self.namespace,
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
        ]);
        command.args([
            "--no-resolv",
            "--no-hosts",
            "--interface=lan",
            "--bind-interfaces",
            "--no-ping",
            "--user=root",
        ]);
        command.args([
            "--dhcp-authoritative",
            "--leasefile-ro",
            "--pid-file=",
            "--log-facility=-",
            range,
            &address,
        ]);
        self.server =
            Some(command.stderr(self.log.reopen().unwrap()).stdin(Stdio::null()).spawn().unwrap());
        self.until("it serves", |log| log.contains("DHCP, IP range"));
    }

    /// The server stops.
    pub fn end(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// The number of lines in the server's log that have `what` and the machine's MAC.
    pub fn count(&self, what: &str, mac: &str) -> usize {
        self.said().lines().filter(|line| line.contains(what) && line.contains(mac)).count()
    }

    pub fn until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let held = holds_within(TOLD_WITHIN, || holds(&self.said()));
        assert!(held, "{what}: not within {TOLD_WITHIN:?}\n{}", self.said());
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.end();
        let _ = Command::new("ip").args(["netns", "delete", &self.namespace]).status();
        let _ = Command::new("ip").args(["link", "delete", &self.bridge]).status();
    }
}
