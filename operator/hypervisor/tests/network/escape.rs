//! A run that wants out: the escape table, tried by the root of a real guest, with a machine of its own pool and one of another beside it.

use std::time::{Duration, Instant};

use agentvm_core::network::{Allow, PortRange, Protocol};
use agentvm_hypervisor::{HvError, Hypervisor, Stop};

use crate::attacks;
use crate::ground::{Machine, policy};
use crate::libvirt_host::{TOKEN, took};
use crate::real::Real;

/// On another machine: tells whom it hears.
const LISTEN: &str = "import select, socket\n\
    def at(kind, port):\n  s = socket.socket(socket.AF_INET, kind); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n  s.bind(('', port))\n\
    \n  if kind == socket.SOCK_STREAM: s.listen()\n  return s\n\
    heard = [at(socket.SOCK_STREAM, p) for p in (22, 80, 443, 8000)] + [at(socket.SOCK_DGRAM, p) for p in (53, 68, 8000)]\n\
    socket.create_connection(('127.0.0.1', 8000)); print('listening', flush=True)\n\
    while True:\n  for s in select.select(heard, [], [])[0]:\n    who = s.accept()[1] if s.type == socket.SOCK_STREAM else s.recvfrom(100)[1]\n    print('heard', *who, flush=True)\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_real_attacker_gets_nowhere() {
    let began = Instant::now();
    let real = Real::new("escape").await;
    real.golden("true").await;
    took("a golden with a network", began);
    let specs = [real.spec(0, "pool-one"), real.spec(1, "pool-one"), real.spec(2, "pool-two")];
    let [mut attacker, mut neighbour, mut stranger] =
        [real.machine(&specs[0]).await, real.machine(&specs[1]).await, real.machine(&specs[2]).await];
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
    for machine in [&mut neighbour, &mut stranger] {
        let nonce = machine.0.begin(TOKEN, &format!("python3 -c \"{LISTEN}\"")).await;
        let mut said = Vec::new();
        // It hears itself, or nothing below means anything.
        while !String::from_utf8_lossy(&said).contains("heard 127.0.0.1") {
            machine.0.hear(&nonce, &mut said).await;
        }
        listening.push((nonce, said));
    }
    attacks::reaches_nothing_else(&ground, &mut attacker).await;
    attacks::reaches_no_host(&ground, &mut attacker).await;
    attacks::reaches_no_machine(&ground, &mut attacker).await;
    attacks::sends_no_frame(&ground, &mut attacker).await;
    attacks::has_no_other_way(&ground, &mut attacker).await;
    for (machine, (nonce, mut said)) in [&mut neighbour, &mut stranger].into_iter().zip(listening) {
        let more = machine.0.hear(&nonce, &mut said);
        let _ = tokio::time::timeout(Duration::from_millis(300), more).await;
        let said = String::from_utf8_lossy(&said);
        assert_eq!(said.matches("heard").count(), 1, "{said}");
    }
    assert_eq!(real.internet.escaped(), 0);
    took("the escape table", began);

    let traffic = real.hv.traffic(&specs[0].record.name).await.unwrap();
    println!("counted: {traffic:?}");
    assert!(traffic.allowed >= 6 && traffic.denied > 100, "{traffic:?}");
    let other = real.hv.traffic(&specs[2].record.name).await.unwrap();
    assert_eq!((other.allowed, other.denied), (0, 0), "what one tries isn't counted against another");

    live(&real, &mut attacker).await;
    nobody(&real).await;
    attacks::took_nobodys_place(&ground);
    for spec in &specs {
        real.hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
    }
    real.hv.release().await;
    took("all of it", began);
}

/// A policy is edited while its machine holds connections.
async fn live(real: &Real, attacker: &mut crate::real::RealMachine) {
    let mut wider = policy();
    let ports = vec![PortRange { first: 8080, last: 8080 }];
    wider.allow.push(Allow { protocol: Protocol::Tcp, ports, cidrs: Vec::new() });
    real.police(wider).await;
    let ground = real.ground("");
    attacks::a_policy_is_tightened(&ground, attacker, || real.police(policy())).await;
}

/// Without a policy of its owner a machine isn't connected at all.
async fn nobody(real: &Real) {
    let spec = real.spec(3, "a pool that no policy was made for");
    let _machine = real.machine(&spec).await;
    let refused = real.hv.open_link(&spec.record.name).await;
    assert!(matches!(refused, Err(HvError::NetworkUnavailable { .. })), "{refused:?}");
    real.hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
}
