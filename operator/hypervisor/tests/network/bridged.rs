//! A run tries to get out of a machine on a bridge of the host. It is the escape table of mode
//! `Bridge`, tried by the root of a real guest. Beside it are a machine of its own pool, one of
//! another pool, and the other members of the network: a router, a computer, the host.

use std::net::Ipv4Addr;
use std::time::Instant;

use agentvm_core::names::DomainName;
use agentvm_core::network::{Allow, Mac, Nic, Protocol, Wire};
use agentvm_guest_agent::protocol::{GuestLease, Nonce};
use agentvm_hypervisor::libvirt::Libvirt;
use agentvm_hypervisor::{LinkApi, MachineApi, MachineSpec, Stop};

use crate::ground::{Ground, Machine, policy};
use crate::lan::{LISTENER, Lan, ROUTER_MAC, heard};
use crate::libvirt_host::guest::{Guest, now};
use crate::libvirt_host::{TOKEN, took};
use crate::real::Real;
use crate::{attacks, lan_attacks};
use agentvm_testing::networks::internet::DNS;

/// A machine whose address the network gives.
struct Leased<'a> {
    hv: &'a Libvirt,
    name: &'a DomainName,
    guest: Guest,
    mac: Mac,
    address: Ipv4Addr,
}

impl<'a> Leased<'a> {
    async fn new(hv: &'a Libvirt, spec: &'a MachineSpec) -> Self {
        let name = &spec.record.name;
        hv.create(spec).await.unwrap();
        hv.open_link(name).await.unwrap();
        hv.resume(name).await.unwrap();
        let guest = Guest::open(hv, name, TOKEN).await;
        let mac = spec.record.nic.as_ref().unwrap().mac;
        let mut this = Self { hv, name, guest, mac, address: Ipv4Addr::UNSPECIFIED };
        this.prepare().await;
        this
    }

    /// Ready for a command, as a machine is for a run.
    async fn prepare(&mut self) -> Nonce {
        let nonce = self.guest.rehydrate(TOKEN).await;
        let order = GuestLease {
            mac: self.mac,
            resolvers: vec![DNS],
            time_unix_nanos: now(),
            patience_millis: 20_000,
        };
        self.address = self.guest.lease(&order).await.unwrap();
        self.hv.lease_link(self.name, self.address).await.unwrap();
        nonce
    }

    /// The machine for the attacks, with its address.
    fn nic(&self, spec: &MachineSpec, lan: &Lan<'_>) -> Nic {
        let wire = Wire::Nat {
            address: self.address,
            prefix: 24,
            gateway: lan.subnet.gateway,
            ipv6: None,
        };
        Nic { wire, ..spec.record.nic.clone().unwrap() }
    }

    /// Listens until the machine is gone.
    async fn listen(&mut self) -> (Nonce, Vec<u8>) {
        let nonce = self.prepare().await;
        self.guest.start(&nonce, &format!("python3 -c '{LISTENER}'"), 0).await;
        let mut said = Vec::new();
        // It hears itself, or nothing below means anything.
        while !String::from_utf8_lossy(&said).contains("heard 127.0.0.1") {
            assert_eq!(
                self.guest.hear(&nonce, &mut said).await,
                None,
                "{}",
                String::from_utf8_lossy(&said)
            );
        }
        (nonce, said)
    }

    /// That one it does hear.
    async fn heard_nobody_but_the_computer(
        &mut self,
        lan: &Lan<'_>,
        nonce: &Nonce,
        said: &mut Vec<u8>,
    ) {
        let what = format!("tcp:{}:8000", self.address);
        assert_eq!(lan.beside(std::slice::from_ref(&what))[&what], "ok");
        let near = format!("heard {} ", lan.near);
        while !String::from_utf8_lossy(said).contains(&near) {
            assert_eq!(
                self.guest.hear(nonce, said).await,
                None,
                "{}",
                String::from_utf8_lossy(said)
            );
        }
        let others = heard(&String::from_utf8_lossy(said));
        assert!(others.iter().all(|line| line.starts_with(&near)), "{others:?}");
    }
}

impl Machine for Leased<'_> {
    async fn sh(&mut self, command: &str) -> String {
        let nonce = self.prepare().await;
        // Most attempts get no answer: the listeners report whether they were reached.
        self.guest.execute(&nonce, &format!("export WAIT=1; {command}")).await.1
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_attacker_on_a_bridge_of_the_host_gets_nowhere() {
    let began = Instant::now();
    let real = Real::new("bridged").await;
    real.golden("true").await;
    let lan = Lan::new(&real.internet, &real.host.instance);
    took("a golden, and a network of somebody else's", began);
    let specs = [(0, "pool-one"), (1, "pool-one"), (2, "pool-two")].map(|(slot, owner)| {
        let mut spec = real.spec(slot, owner);
        spec.record.nic =
            Some(Nic::bridge(&real.host.instance, &spec.record.name, &lan.subnet.bridge));
        spec
    });
    let [first, second, third] = &specs;
    let new = |spec| Leased::new(&real.hv, spec);
    let (mut attacker, mut neighbour, mut stranger) =
        tokio::join!(new(first), new(second), new(third));
    let ground = Ground {
        internet: &real.internet,
        subnet: lan.subnet.clone(),
        gateway_mac: ROUTER_MAC.parse().unwrap(),
        own: attacker.nic(first, &lan),
        others: [neighbour.nic(second, &lan), stranger.nic(third, &lan)],
        link: attacker.sh("ls /sys/class/net | grep -v lo").await,
    };
    lan_attacks::prepare(&ground, &mut attacker).await;
    attacks::reaches_the_internet(&ground, &mut attacker).await;
    took("until all machines are connected", began);

    let mut listening = [neighbour.listen().await, stranger.listen().await];
    lan_attacks::reaches_nothing_private(&lan, &ground, &mut attacker).await;
    lan_attacks::sends_no_frame(&lan, &ground, &mut attacker).await;
    lan_attacks::took_nobodys_place(&lan, &ground);
    assert_eq!(lan.heard_beside(), Vec::<String>::new());
    took("the escape table", began);
    where_that_network_is_allowed(&real, &lan, &ground, &mut attacker).await;
    lan_attacks::took_nobodys_place(&lan, &ground);
    for (machine, (nonce, said)) in [&mut neighbour, &mut stranger].into_iter().zip(&mut listening)
    {
        machine.heard_nobody_but_the_computer(&lan, nonce, said).await;
    }
    let traffic = real.hv.traffic(&first.record.name).await.unwrap();
    assert!(traffic.denied > 100, "{traffic:?}");
    let nonce = attacker.prepare().await;
    attacker.guest.start(&nonce, &lan_attacks::bpdus(&ground), 0).await;
    lan_attacks::becomes_no_root(&lan, &ground);
    assert_eq!(real.internet.escaped(), 0);
    for spec in &specs {
        real.hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
    }
    drop(lan);
    real.hv.release().await;
    took("all of it", began);
}

/// Its other computers are reached then, and the host and other machines are not.
async fn where_that_network_is_allowed(
    real: &Real,
    lan: &Lan<'_>,
    ground: &Ground<'_>,
    attacker: &mut Leased<'_>,
) {
    let mut wider = policy();
    let cidrs = vec![lan.net().into()];
    wider.allow = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp]
        .map(|protocol| Allow { protocol, ports: Vec::new(), cidrs: cidrs.clone() })
        .into();
    real.apply(wider).await;
    let what = format!("tcp:{}:8000", lan.near);
    let reached = ground.reach(attacker, "", std::slice::from_ref(&what)).await;
    assert_eq!(reached[&what], "ok");
    assert!(!lan.heard_beside().is_empty(), "the computer beside hears");
    lan_attacks::never(lan, ground, attacker, &[]).await;
    attacks::reaches_no_host(ground, attacker).await;
    attacks::reaches_no_machine(ground, attacker).await;
}
