//! A run tries to get out. It is the escape table, tried by the root of a real guest. Beside it are
//! a machine of its own pool and one of another pool.

use std::process::Command;
use std::time::Instant;

use agentvm_core::network::{Allow, Nic, PortRange, Protocol, Subnet};
use agentvm_guest_agent::protocol::Nonce;
use agentvm_hypervisor::{HvError, LinkApi, MachineApi, Stop};

use crate::attacks;
use crate::ground::{Ground, Machine, policy};
use crate::libvirt_host::{TOKEN, took};
use crate::real::{Real, RealMachine};

/// A program on another machine: it reports the senders that it hears.
const LISTEN: &str = "import select, socket\n\
    def at(kind, port):\n  s = socket.socket(socket.AF_INET, kind); \
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n  s.bind(('', port))\n\
    \n  if kind == socket.SOCK_STREAM: s.listen()\n  return s\n\
    heard = [at(socket.SOCK_STREAM, p) for p in (22, 80, 443, 8000)] + [at(socket.SOCK_DGRAM, p) \
    for p in (53, 68, 8000)]\n\
    socket.create_connection(('127.0.0.1', 8000)); print('listening', flush=True)\n\
    while True:\n  for s in select.select(heard, [], [])[0]:\n    who = s.accept()[1] if s.type == \
    socket.SOCK_STREAM else s.recvfrom(100)[1]\n    print('heard', *who, flush=True)\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_real_attacker_gets_nowhere() {
    let began = Instant::now();
    let real = Real::new("escape").await;
    real.golden("true").await;
    took("a golden with a network", began);
    let specs = [real.spec(0, "pool-one"), real.spec(1, "pool-one"), real.spec(2, "pool-two")];
    let [mut attacker, mut neighbour, mut stranger] = [
        real.machine(&specs[0]).await,
        real.machine(&specs[1]).await,
        real.machine(&specs[2]).await,
    ];
    let link = attacker.sh("ls /sys/class/net | grep -v lo").await;
    let ground = real.ground(&link);
    attacks::prepare(&ground, &mut attacker).await;

    // Its link is closed: no policy is in force for it yet.
    attacks::reaches_nothing(&ground, &mut attacker).await;
    for spec in &specs {
        real.hv.open_link(&spec.record.name).await.unwrap();
    }
    attacks::reaches_the_internet(&ground, &mut attacker).await;
    took("until the attacker is connected", began);

    let mut listening = Vec::new();
    for (machine, nic) in [&mut neighbour, &mut stranger].into_iter().zip(&ground.others) {
        listening.push(Listening::new(&ground, machine, nic).await);
    }
    attacks::reaches_nothing_else(&ground, &mut attacker).await;
    attacks::follows_no_name(&ground, &mut attacker).await;
    attacks::reaches_no_host(&ground, &mut attacker).await;
    attacks::reaches_no_machine(&ground, &mut attacker).await;
    attacks::sends_no_frame(&ground, &mut attacker).await;
    attacks::has_no_other_way(&ground, &mut attacker).await;
    for (machine, listening) in [&mut neighbour, &mut stranger].into_iter().zip(listening) {
        listening.heard_nobody(&ground, machine).await;
    }
    assert_eq!(real.internet.escaped(), 0);
    took("the escape table", began);

    let traffic = real.hv.traffic(&specs[0].record.name).await.unwrap();
    println!("counted: {traffic:?}");
    assert!(traffic.allowed >= 6 && traffic.denied > 100, "{traffic:?}");
    let other = real.hv.traffic(&specs[2].record.name).await.unwrap();
    assert_eq!(
        (other.allowed, other.denied),
        (0, 0),
        "what one tries isn't counted against another"
    );

    live(&real, &mut attacker).await;
    nobody(&real, &link).await;
    attacks::took_nobodys_place(&ground);
    for spec in &specs {
        real.hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
    }
    real.hv.release().await;
    took("all of it", began);
}

/// Another machine, which reports the senders that it hears.
struct Listening<'a> {
    nic: &'a Nic,
    nonce: Nonce,
    said: Vec<u8>,
}

impl<'a> Listening<'a> {
    /// It must hear itself, and a frame on its wire; otherwise its silence means nothing.
    async fn new(ground: &Ground<'_>, machine: &mut RealMachine, nic: &'a Nic) -> Self {
        let nonce = machine.0.begin(TOKEN, &format!("python3 -c \"{LISTEN}\"")).await;
        let mut this = Self { nic, nonce, said: Vec::new() };
        this.until(machine, "heard 127.0.0.1 ").await;
        this.knock(ground, machine, 1001).await;
        this
    }

    async fn until(&mut self, machine: &mut RealMachine, what: &str) {
        while !String::from_utf8_lossy(&self.said).contains(what) {
            let end = machine.0.hear(&self.nonce, &mut self.said).await;
            assert_eq!(end, None, "{}", String::from_utf8_lossy(&self.said));
        }
    }

    /// The host sends it, past all rules.
    async fn knock(&mut self, ground: &Ground<'_>, machine: &mut RealMachine, from: u16) {
        let Subnet { gateway, .. } = ground.subnet;
        let [mac, address] = [self.nic.mac.to_string(), self.nic.address().unwrap().to_string()];
        let [from_mac, source] = [ground.gateway_mac.to_string(), gateway.to_string()];
        let mut command = Command::new("python3");
        command.args([
            "-c",
            include_str!("knock.py"),
            &self.nic.tap,
            &mac,
            &address,
            &from_mac,
            &source,
        ]);
        assert!(command.args([&from.to_string(), "8000"]).status().unwrap().success());
        self.until(machine, &format!("heard {gateway} {from}\n")).await;
    }

    /// When it has heard the next knock, it has reported all earlier senders.
    async fn heard_nobody(mut self, ground: &Ground<'_>, machine: &mut RealMachine) {
        self.knock(ground, machine, 1002).await;
        let said = String::from_utf8_lossy(&self.said);
        assert_eq!(said.matches("heard").count(), 3, "itself, and two knocks: {said}");
    }
}

/// A policy is edited while its machine holds connections.
async fn live(real: &Real, attacker: &mut RealMachine) {
    let mut wider = policy();
    let ports = vec![PortRange { first: 8080, last: 8080 }];
    wider.allow.push(Allow { protocol: Protocol::Tcp, ports, cidrs: Vec::new() });
    real.apply(wider).await;
    let ground = real.ground("");
    attacks::a_policy_is_tightened(&ground, attacker, || real.apply(policy())).await;
}

/// Without a policy of its owner a machine isn't connected at all.
async fn nobody(real: &Real, link: &str) {
    let spec = real.spec(3, "a pool that no policy was made for");
    let mut machine = real.machine(&spec).await;
    let refused = real.hv.open_link(&spec.record.name).await;
    assert!(matches!(refused, Err(HvError::NetworkUnavailable { .. })), "{refused:?}");
    let ground = Ground { own: spec.record.nic.clone().unwrap(), ..real.ground(link) };
    attacks::prepare(&ground, &mut machine).await;
    attacks::reaches_nothing(&ground, &mut machine).await;
    real.hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
}
