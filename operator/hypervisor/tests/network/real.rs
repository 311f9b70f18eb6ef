//! Real machines: real guests on a real libvirt, connected as the operator connects them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use agentvm_core::names::{GoldenKey, InstanceId};
use agentvm_core::network::{Nic, Policy, Subnet, Wire, ula};
use agentvm_guest_agent::protocol::{GuestIpv6, GuestNetwork};
use agentvm_hypervisor::libvirt::Libvirt;
use agentvm_hypervisor::{GoldenApi, LinkApi, MachineApi, MachineSpec};
use agentvm_types::OwnerUid;

use tokio::sync::MutexGuard;

use crate::ground::{Ground, Machine, TURN, dual_policy, node_networks, policy};
use crate::libvirt_host::guest::Guest;
use crate::libvirt_host::{TOKEN, TestHost};
use agentvm_testing::networks::internet::{DNS, Internet};

/// An installation with a bridge of its own, behind which the test's internet is all there is.
pub struct Real {
    // Dropped in this order: it puts back rules that are removed while it is there.
    pub hv: Libvirt,
    pub host: TestHost,
    pub internet: Internet,
    pub subnet: Subnet,
    pub key: GoldenKey,
    /// The attachment of the machines; the template has no IPv6.
    nic: fn(&InstanceId, &Subnet, Ipv4Addr) -> Nic,
    _turn: MutexGuard<'static, ()>,
}

impl Real {
    /// With a golden that `setup` has been run in, without a network.
    pub async fn new(name: &str) -> Self {
        let turn = TURN.lock().await;
        let host = TestHost::new();
        let hv = host.connect().await;
        let internet = Internet::new();
        let subnet = hv.subnet().await.unwrap();
        internet.attach(&subnet.bridge, &subnet.net().to_string());
        let this = Self {
            hv,
            host,
            internet,
            subnet,
            key: GoldenKey::derive(&[name]),
            nic: Nic::nat,
            _turn: turn,
        };
        this.apply(policy()).await;
        this
    }

    /// Makes it with IPv6, which both pools ask for.
    pub async fn dual(name: &str) -> Self {
        let this = Self { nic: Nic::dual, ..Self::new(name).await };
        this.hv.ipv6().await.unwrap();
        this.internet.attach_ipv6(&this.subnet.bridge, &ula(&this.host.instance).to_string());
        this.apply(dual_policy()).await;
        this
    }

    /// One policy for both pools and for the template.
    pub async fn apply(&self, policy: Policy) {
        let owners = ["pool-one", "pool-two", "template"];
        let policies: BTreeMap<_, _> =
            owners.map(|owner| (OwnerUid::new(owner), policy.clone())).into();
        self.hv.apply_policies(policies, node_networks()).await.unwrap();
    }

    fn nic(&self, number: usize) -> Nic {
        (self.nic)(&self.host.instance, &self.subnet, self.subnet.machines().nth(number).unwrap())
    }

    /// The network that the agent of a machine gets.
    fn told(&self, nic: &Nic) -> GuestNetwork {
        let Wire::Nat { address, prefix, gateway, ipv6 } = nic.wire else { panic!("{nic:?}") };
        let resolvers = vec![DNS];
        GuestNetwork {
            mac: nic.mac,
            address,
            prefix,
            gateway,
            gateway_mac: self.hv.gateway_mac(),
            resolvers,
            ipv6: ipv6.map(|address| {
                let (net, gateway) = Nic::around(address);
                GuestIpv6 { address, prefix: net.prefix_len(), gateway }
            }),
        }
    }

    /// Boots a template, runs `setup` in it with its network, and captures it; returns the output
    /// of `setup`.
    pub async fn golden(&self, setup: &str) -> String {
        let mut spec = self.host.template(&self.key);
        let first = self.subnet.machines().next().unwrap();
        let nic = Nic::nat(&self.host.instance, &self.subnet, first);
        (spec.record.owner_uid, spec.record.nic) = (OwnerUid::new("template"), Some(nic.clone()));
        let name = &spec.record.name;
        self.hv.boot_template(&spec).await.unwrap();
        let mut guest = Guest::open(&self.hv, name, TOKEN).await;
        self.hv.open_link(name).await.unwrap();
        guest.network = Some(self.told(&nic));
        let (code, said) = guest.sh(TOKEN, setup).await;
        assert_eq!(code, Some(0), "{said}");
        self.hv.close_link(name).await.unwrap();
        let inspection = guest.quiesce().await;
        self.hv.capture(name, &serde_json::to_string(&inspection).unwrap()).await.unwrap();
        said
    }

    pub fn spec(&self, number: u32, owner: &str) -> MachineSpec {
        let mut spec = self.host.machine(&self.key, number, &format!("nonce-{number}"));
        spec.record.owner_uid = OwnerUid::new(owner);
        spec.record.nic = Some(self.nic(usize::try_from(number).unwrap() + 1));
        spec
    }

    /// A machine that runs, its link as it is made: closed.
    pub async fn machine(&self, spec: &MachineSpec) -> RealMachine {
        self.hv.create(spec).await.unwrap();
        self.hv.resume(&spec.record.name).await.unwrap();
        let mut guest = Guest::open(&self.hv, &spec.record.name, TOKEN).await;
        guest.network = spec.record.nic.as_ref().map(|nic| self.told(nic));
        RealMachine(guest)
    }

    /// The ground from the view of the first machine.
    pub fn ground(&self, link: &str) -> Ground<'_> {
        Ground {
            internet: &self.internet,
            subnet: self.subnet.clone(),
            gateway_mac: self.hv.gateway_mac(),
            own: self.nic(1),
            others: [self.nic(2), self.nic(3)],
            link: link.to_owned(),
        }
    }
}

pub struct RealMachine(pub Guest);

impl Machine for RealMachine {
    async fn sh(&mut self, command: &str) -> String {
        self.0.sh(TOKEN, command).await.1
    }
}
