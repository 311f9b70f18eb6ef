//! Machines with IPv6 too: as `rules_hold.rs` and `escape.rs`, by IPv6.

use std::process::Command;
use std::time::Instant;

use agentvm_core::network::{Allow, FlowVerdict, LinkLimits, Nic, PortRange, Protocol};

use agentvm_hypervisor::{LinkApi, MachineApi, Stop};

use crate::ground::{Machine, dual_policy, policy};
use crate::lab::Lab;
use crate::libvirt_host::took;
use crate::real::Real;
use crate::{attacks, ipv6};
use agentvm_testing::networks::internet::{PRIVATE_V6, WEB, WEB_V6};

#[tokio::test]
async fn an_attacker_with_ipv6_gets_nowhere() {
    let lab = Lab::dual();
    lab.connect();
    let (ground, mut machine) = (lab.ground(), lab.machine(0));
    ipv6::prepare(&ground, &mut machine).await;
    ipv6::reaches_the_internet(&ground, &mut machine).await;
    ipv6::reaches_nothing_else(&ground, &mut machine).await;
    ipv6::reaches_no_machine(&ground, &mut machine).await;
    ipv6::reaches_no_host(&ground, &mut machine).await;
    ipv6::sends_no_frame(&ground, &mut machine).await;
    ipv6::took_nobodys_place(&ground);
    assert_eq!(lab.internet.escaped(), 0);
}

#[tokio::test]
async fn ipv4_is_what_it_was_where_there_is_ipv6_too() {
    let lab = Lab::dual();
    lab.connect();
    let (ground, mut machine) = (lab.ground(), lab.machine(0));
    attacks::prepare(&ground, &mut machine).await;
    attacks::reaches_the_internet(&ground, &mut machine).await;
    attacks::sends_no_frame(&ground, &mut machine).await;
    attacks::took_nobodys_place(&ground);
}

/// The machine has its address still; its pool doesn't ask for it any more, and another one does.
#[tokio::test]
async fn a_pool_that_has_gone_back_has_none() {
    let mut lab = Lab::dual();
    lab.policies.get_mut("pool-one").unwrap().ipv6 = false;
    lab.connect();
    let (ground, mut machine) = (lab.ground(), lab.machine(0));
    ipv6::prepare(&ground, &mut machine).await;
    ipv6::reaches_nothing(&ground, &mut machine).await;
    let by_four = ground.reach(&mut machine, "", &[format!("tcp:{WEB}:443")]).await;
    assert_eq!(by_four.into_values().collect::<Vec<_>>(), ["ok"]);
    ipv6::reaches_the_internet(&ground, &mut lab.machine(2)).await;
}

#[tokio::test]
async fn a_private_network_is_reached_by_name() {
    let mut lab = Lab::dual();
    let allow = |net: &str| {
        let cidrs = vec![net.parse().unwrap()];
        vec![Allow {
            protocol: Protocol::Tcp,
            ports: vec![PortRange { first: 8080, last: 8080 }],
            cidrs,
        }]
    };
    lab.policies.get_mut("pool-one").unwrap().allow = allow("fd00:99::/64");
    lab.policies.get_mut("pool-two").unwrap().allow = allow("::/0");
    lab.connect();
    let ground = lab.ground();
    let what = [
        format!("tcp:{PRIVATE_V6}:8080"),
        format!("tcp:{PRIVATE_V6}:80"),
        format!("tcp:{WEB_V6}:8080"),
    ];
    for (machine, reached) in [(0, ["silent", "silent", "ok"]), (2, ["ok", "silent", "silent"])] {
        let mut machine = lab.machine(machine);
        ipv6::prepare(&ground, &mut machine).await;
        let came: Vec<String> = ground.reach(&mut machine, "", &what).await.into_values().collect();
        assert_eq!(
            came, reached,
            "in the order of the addresses: the public one, then the private one by port"
        );
    }
}

/// One that has two addresses is one machine.
#[tokio::test]
async fn limits_hold_for_both_together() {
    let mut lab = Lab::dual();
    lab.policies.get_mut("pool-one").unwrap().limits =
        LinkLimits { bytes_per_second: None, packets_per_second: 5000, connections: 2 };
    lab.connect();
    let mut machine = lab.machine(0);
    let hold = |first: &str, more: &str| {
        format!(
            "python3 -c \"
import socket
def ask(to, patience=30):
  s = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET); s.settimeout(patience)
  try: s.connect((to, 443)); return s
  except OSError: return None
held = [ask('{first}'), ask('{first}')]
print(*(s is not None for s in held), ask('{more}', 2) is not None)\""
        )
    };
    let (four, six) = (WEB.to_string(), WEB_V6.to_string());
    assert_eq!(
        machine.sh(&hold(&four, &six)).await,
        "True True False",
        "two by IPv4 leave none by IPv6"
    );
    let mut other = lab.machine(1);
    assert_eq!(other.sh(&hold(&six, &four)).await, "True True False", "nor the other way round");
}

/// Connections of a machine by IPv6 that the host remembers.
fn remembered(nic: &Nic) -> usize {
    let address = nic.ipv6().unwrap().to_string();
    let output =
        Command::new("conntrack").args(["-L", "-f", "ipv6", "-s", &address]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().count()
}

/// A real guest whose agent and kernel have the address.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_attacker_with_ipv6_gets_nowhere() {
    let began = Instant::now();
    let real = Real::dual("dual").await;
    real.golden("true").await;
    took("a golden with a network", began);
    let specs = [real.spec(0, "pool-one"), real.spec(1, "pool-one"), real.spec(2, "pool-two")];
    let mut flows = real.hv.flows().unwrap();
    let mut attacker = real.machine(&specs[0]).await;
    let _neighbour = real.machine(&specs[1]).await;
    let link = attacker.sh("ls /sys/class/net | grep -v lo").await;
    let ground = real.ground(&link);
    ipv6::prepare(&ground, &mut attacker).await;
    ipv6::reaches_nothing(&ground, &mut attacker).await;
    for spec in &specs[..2] {
        real.hv.open_link(&spec.record.name).await.unwrap();
    }
    ipv6::reaches_the_internet(&ground, &mut attacker).await;
    let quiet = real.hv.traffic(&specs[0].record.name).await.unwrap();
    assert_eq!(quiet.denied, 0, "what a kernel says by itself is counted against nobody");
    ipv6::reaches_nothing_else(&ground, &mut attacker).await;
    let told = std::iter::from_fn(|| flows.try_recv().ok())
        .filter(|flow| flow.machine == specs[0].record.name);
    let told: Vec<_> = told.map(|flow| (flow.verdict, flow.target.to_string())).collect();
    for (verdict, port) in [(FlowVerdict::Allowed, 443), (FlowVerdict::Denied, 8080)] {
        let wanted = (verdict, format!("TCP {WEB_V6} port {port}"));
        assert!(told.contains(&wanted), "{wanted:?} is not among {told:?}");
    }
    ipv6::reaches_no_machine(&ground, &mut attacker).await;
    ipv6::reaches_no_host(&ground, &mut attacker).await;
    ipv6::sends_no_frame(&ground, &mut attacker).await;
    ipv6::took_nobodys_place(&ground);
    let traffic = real.hv.traffic(&specs[0].record.name).await.unwrap();
    assert!(traffic.allowed >= 4 && traffic.denied > 100, "{traffic:?}");
    assert_eq!(real.hv.traffic(&specs[1].record.name).await.unwrap().denied, 0);
    // The pool goes back to IPv4: its IPv6 ends at once.
    assert!(remembered(&ground.own) > 0);
    real.apply(policy()).await;
    assert_eq!(remembered(&ground.own), 0, "the other side may answer no more");
    ipv6::reaches_nothing(&ground, &mut attacker).await;
    real.apply(dual_policy()).await;
    ipv6::reaches_the_internet(&ground, &mut attacker).await;
    assert_eq!(real.internet.escaped(), 0);
    for spec in &specs[..2] {
        real.hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
    }
    real.hv.release().await;
    took("all of it", began);
}
