//! Machines without a virtual machine: network namespaces on a bridge, connected like taps, under
//! the rules of real machines.
//!
//! The attacker is in one of them, and has every right there, like the root of a machine. These
//! tests take seconds; `escape.rs` tries the attacks from real guests.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use agentvm_core::names::InstanceId;
use agentvm_core::network::rules::{self, Wanted};
use agentvm_core::network::{Link, Mac, Nic, Policy, Subnet, Table};
use agentvm_types::OwnerUid;

use crate::ground::{Ground, Machine, node_networks, policy};
use agentvm_testing::networks::internet::Internet;

const GATEWAY_MAC: [u8; 6] = [0x52, 0x54, 0, 1, 1, 1];

pub struct Lab {
    pub table: Table,
    pub subnet: Subnet,
    pub policies: BTreeMap<OwnerUid, Policy>,
    pub links: Vec<Link>,
    pub internet: Internet,
    instance: InstanceId,
    namespaces: Vec<String>,
    /// The machines' `/tmp`: other tests put equal scripts into theirs.
    scripts: tempfile::TempDir,
}

impl Lab {
    /// A bridge and three machines, the first two of one pool; no rules yet, the taps down.
    pub fn new() -> Self {
        Self::with(Nic::nat)
    }

    /// Makes it with IPv6, which both pools ask for.
    pub fn dual() -> Self {
        let mut this = Self::with(Nic::dual);
        this.policies.values_mut().for_each(|policy| policy.ipv6 = true);
        this.wire_ipv6();
        this
    }

    fn with(nic: fn(&InstanceId, &Subnet, Ipv4Addr) -> Nic) -> Self {
        let internet = Internet::new();
        let id = internet.namespace().to_owned();
        let instance = InstanceId::for_state_dir(&id);
        let number = internet.number() % 50 + 200;
        let subnet = Subnet {
            bridge: format!("{id}b"),
            gateway: Ipv4Addr::new(192, 168, number, 1),
            prefix: 24,
        };
        let links = ["pool-one", "pool-one", "pool-two"].iter().zip(subnet.machines()).map(
            |(owner, address)| Link {
                nic: nic(&instance, &subnet, address),
                owner_uid: OwnerUid::new(*owner),
            },
        );
        let this = Self {
            table: Table::of(&instance),
            policies: [
                (OwnerUid::new("pool-one"), policy()),
                (OwnerUid::new("pool-two"), policy()),
            ]
            .into(),
            links: links.collect(),
            namespaces: (0..3).map(|n| format!("{id}m{n}")).collect(),
            scripts: tempfile::tempdir().unwrap(),
            internet,
            subnet,
            instance,
        };
        this.wire();
        this
    }

    fn wire(&self) {
        let Subnet { bridge, gateway, .. } = &self.subnet;
        let mac = Mac::new(GATEWAY_MAC);
        ip(&format!("link add {bridge} address {mac} type bridge stp_state 0 forward_delay 0"));
        // Otherwise the bridge would learn MACs from frames to link-local groups, which it takes
        // before any rule sees them.
        ip(&format!("link set dev {bridge} type bridge no_linklocal_learn 1"));
        ip(&format!("addr add {gateway}/24 dev {bridge}"));
        ip(&format!("link set {bridge} up"));
        for (link, namespace) in self.links.iter().zip(&self.namespaces) {
            let Nic { tap, mac: own, .. } = &link.nic;
            let address = link.nic.address().unwrap();
            ip(&format!("netns add {namespace}"));
            ip(&format!("link add {tap} type veth peer name eth0 address {own} netns {namespace}"));
            ip(&format!("link set {tap} master {bridge}"));
            run(Command::new("bridge").args(["link", "set", "dev", tap, "isolated", "on"]));
            ip(&format!("-n {namespace} link set lo up"));
            ip(&format!("-n {namespace} link set eth0 up"));
            ip(&format!("-n {namespace} addr add {address}/24 dev eth0"));
            ip(&format!("-n {namespace} route add default via {gateway}"));
            ip(&format!(
                "-n {namespace} neigh replace {gateway} lladdr {mac} nud permanent dev eth0"
            ));
        }
        self.internet.attach(bridge, &self.subnet.net().to_string());
        for way in [bridge.clone(), self.internet.link()] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{way}/forwarding"), "1").unwrap();
        }
    }

    /// Does the work of the host and of the agents for them.
    fn wire_ipv6(&self) {
        agentvm_hypervisor::ipv6::ensure(&self.instance, &self.subnet).unwrap();
        for (link, namespace) in self.links.iter().zip(&self.namespaces) {
            let address = link.nic.ipv6().unwrap();
            let (_, gateway) = Nic::around(address);
            let mac = Mac::new(GATEWAY_MAC);
            ip(&format!("-n {namespace} -6 addr flush dev eth0"));
            ip(&format!("-n {namespace} -6 addr add {address}/64 dev eth0 nodad"));
            ip(&format!(
                "-n {namespace} -6 neigh replace {gateway} lladdr {mac} nud permanent dev eth0"
            ));
            ip(&format!("-n {namespace} -6 route add default via {gateway}"));
        }
        self.internet.attach_ipv6(&self.subnet.bridge, &self.table.ula().to_string());
    }

    /// The text for `nft -f -` that makes the rules of these machines, whatever the table had
    /// before.
    pub fn rules(&self) -> String {
        self.told(rules::write_anew)
    }

    /// The text for a table that exists.
    pub fn rules_kept(&self) -> String {
        self.told(rules::write)
    }

    fn told(&self, text: fn(&Wanted<'_>) -> String) -> String {
        let never = node_networks();
        let wanted = Wanted {
            table: &self.table,
            subnet: &self.subnet,
            gateway_mac: Mac::new(GATEWAY_MAC),
            deny_list: &never,
            policies: &self.policies,
            before: &BTreeMap::new(),
            links: &self.links,
            host_addresses: &[],
            leases: vec![],
            qemu_users: None,
        };
        text(&wanted)
    }

    /// The rules first, the links after.
    pub fn connect(&self) {
        nft(&self.rules());
        for link in &self.links {
            ip(&format!("link set {} up", link.nic.tap));
        }
    }

    /// One of the machines.
    pub fn machine(&self, number: usize) -> Namespace {
        Namespace { name: self.namespaces[number].clone(), scripts: self.scripts.path().to_owned() }
    }

    pub fn ground(&self) -> Ground<'_> {
        let nic = |n: usize| self.links[n].nic.clone();
        Ground {
            internet: &self.internet,
            subnet: self.subnet.clone(),
            gateway_mac: Mac::new(GATEWAY_MAC),
            own: nic(0),
            others: [nic(1), nic(2)],
            link: "eth0".to_owned(),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for family in ["bridge", "inet"] {
            let _ =
                Command::new("nft").args(["delete", "table", family, self.table.name()]).output();
        }
        for namespace in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
        }
        for link in self.links.iter().map(|link| &link.nic.tap).chain([&self.subnet.bridge]) {
            let _ = Command::new("ip").args(["link", "delete", link]).output();
        }
    }
}

/// A machine that is only a namespace.
pub struct Namespace {
    name: String,
    scripts: PathBuf,
}

impl Namespace {
    /// A shell command in it; it has mounts of its own there.
    pub fn command(&self, command: &str) -> Command {
        let command = format!("mount --bind {} /tmp || exit\n{command}", self.scripts.display());
        let mut within = Command::new("ip");
        within.args(["netns", "exec", &self.name, "sh", "-c", &command]);
        within
    }
}

impl Machine for Namespace {
    async fn sh(&mut self, command: &str) -> String {
        let output = tokio::process::Command::from(self.command(command)).output().await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).trim().to_owned()
    }
}

pub fn ip(arguments: &str) {
    run(Command::new("ip").args(arguments.split(' ')));
}

pub fn nft(text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    run(Command::new("nft").arg("-f").arg(file.path()));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
