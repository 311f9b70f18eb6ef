//! An installation whose machines have a network device. Behind it there is only the test's
//! internet.

use std::collections::BTreeMap;
use std::process::Command;

use agentvm_core::names::GoldenKey;
use agentvm_core::network::{LinkLimits, Nic, Policy, Subnet, Table};
use agentvm_guest_agent::protocol::GuestNetwork;
use agentvm_hypervisor::libvirt::{Libvirt, LibvirtConfig, LibvirtFilter};
use agentvm_hypervisor::{Golden, GoldenApi, LinkApi, MachineSpec};
use agentvm_types::OwnerUid;

use crate::libvirt_host::guest::Guest;
use crate::libvirt_host::{TOKEN, TestHost};
use agentvm_testing::networks::internet::{DNS, Internet, WEB};

pub struct Plugged {
    pub hv: Libvirt,
    pub internet: Internet,
    pub subnet: Subnet,
    pub key: GoldenKey,
    /// This field is last, so that nothing is left that would put the rules back when it is
    /// dropped.
    pub host: TestHost,
}

/// The kernel's flag `IFF_UP`.
pub fn is_up(tap: &str) -> bool {
    let flags = std::fs::read_to_string(format!("/sys/class/net/{tap}/flags")).unwrap();
    u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap() & 1 == 1
}

pub fn tap(spec: &MachineSpec) -> String {
    spec.record.nic.as_ref().unwrap().tap.clone()
}

/// A shell command that says `reached` when the test's internet answers.
pub fn reach() -> String {
    format!("timeout 10 bash -c 'exec 3<>/dev/tcp/{WEB}/80' && echo reached")
}

impl Plugged {
    pub async fn new(name: &str) -> Self {
        Self::filtered(name, LibvirtFilter::Disabled).await
    }

    pub async fn filtered(name: &str, filter: LibvirtFilter) -> Self {
        let host = TestHost::new();
        let hv = Libvirt::connect(LibvirtConfig { filter, ..host.config() }).await.unwrap();
        let internet = Internet::new();
        let subnet = hv.subnet().await.unwrap();
        internet.attach(&subnet.bridge, &subnet.net().to_string());
        let this = Self { host, hv, internet, subnet, key: GoldenKey::derive(&[name]) };
        this.hv.apply_policies(Self::policies(&["pool-uid"]), vec![]).await.unwrap();
        this
    }

    pub fn policies(owners: &[&str]) -> BTreeMap<OwnerUid, Policy> {
        let limits =
            LinkLimits { bytes_per_second: None, packets_per_second: 20_000, connections: 512 };
        let policy =
            Policy { generation: 1, ipv6: false, allow: Vec::new(), resolvers: vec![DNS], limits };
        owners.iter().map(|owner| (OwnerUid::new(*owner), policy.clone())).collect()
    }

    fn nic(&self, number: usize) -> Nic {
        Nic::nat(&self.host.instance, &self.subnet, self.subnet.machines().nth(number).unwrap())
    }

    /// The network that a machine's agent gets. The template has an equal device.
    fn told(&self, nic: &Nic) -> GuestNetwork {
        GuestNetwork {
            mac: nic.mac,
            address: nic.address().unwrap(),
            prefix: self.subnet.prefix,
            gateway: self.subnet.gateway,
            gateway_mac: self.hv.gateway_mac(),
            resolvers: vec![DNS],
            ipv6: None,
        }
    }

    /// Its setup has a network, which is closed before it is captured.
    pub async fn golden(&self) -> Golden {
        let mut spec = self.host.template(&self.key);
        let nic = self.nic(0);
        spec.record.nic = Some(nic.clone());
        let name = &spec.record.name;
        self.hv.boot_template(&spec).await.unwrap();
        assert!(!is_up(&nic.tap), "a template is cut off while it boots");
        self.hv.open_link(name).await.unwrap();
        let mut guest = Guest::open(&self.hv, name, TOKEN).await;
        guest.network = Some(self.told(&nic));
        assert_eq!(guest.sh(TOKEN, &reach()).await, (Some(0), "reached".to_owned()));
        self.hv.close_link(name).await.unwrap();
        assert!(!is_up(&nic.tap));
        let inspection = guest.quiesce().await;
        self.hv.capture(name, &serde_json::to_string(&inspection).unwrap()).await.unwrap()
    }

    pub fn spec(&self, slot: u32, nonce: &str) -> MachineSpec {
        let mut spec = self.host.machine(&self.key, slot, nonce);
        spec.record.nic = Some(self.nic(usize::try_from(slot).unwrap() + 1));
        spec
    }

    pub async fn guest(&self, spec: &MachineSpec) -> Guest {
        let mut guest = Guest::open(&self.hv, &spec.record.name, TOKEN).await;
        guest.network = Some(self.told(spec.record.nic.as_ref().unwrap()));
        guest
    }

    pub fn is_in_rules(&self, tap: &str) -> bool {
        let table = Table::of(&self.host.instance);
        let output = Command::new("nft")
            .args(["list", "set", "bridge", table.name(), "pinned"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).contains(&format!("\"{tap}\""))
    }

    /// The kernel's records of a machine's connections.
    pub fn connections(&self, spec: &MachineSpec) -> String {
        let address = spec.record.nic.as_ref().unwrap().address().unwrap().to_string();
        assert!(self.subnet.net().contains(&address.parse::<std::net::Ipv4Addr>().unwrap()));
        let output = Command::new("conntrack").args(["-L", "-s", &address]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}
