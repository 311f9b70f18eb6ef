//! A machine is connected after its policy is in force. An edited spec reaches machines at once.
//! Nothing fails open.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentvm_core::network::{Policy, Wire};
use agentvm_crds::{AgentRun, AgentVMPool, GoldenNodeState, GoldenSnapshot};
use agentvm_hypervisor::fake::{Fault, Op};
use agentvm_hypervisor::{
    GoldenApi, HookAction, HvError, Machine, MachineApi, MachineKind, ResetStep, Step, StepHook,
};
use agentvm_testing::wait_until_async;
use agentvm_tests::{World, condition, reason};
use serde_json::{Value, json};
use tokio::time::Instant;

/// A pool of machines with the default network of pools. All of them are ready.
async fn connected(world: &World, name: &str, count: u32, network: Value) -> AgentVMPool {
    let spec = json!({"warm": {"min": count, "max": count + 1}, "network": network});
    world.pool_with(name, spec).await;
    world.says::<AgentVMPool>(name, "Ready", "True/Filled").await
}

/// Makes a pool `default` of one machine with a network. It need not become ready.
async fn pool_of_one(world: &World) {
    let spec = json!({"warm": {"min": 1, "max": 1}, "network": {"mode": "NatFiltered"}});
    world.pool_with("default", spec).await;
}

async fn machines(world: &World) -> Vec<Machine> {
    world
        .fake
        .list()
        .await
        .unwrap()
        .into_iter()
        .filter(|machine| machine.record.kind == MachineKind::Pool)
        .collect()
}

fn policy(world: &World, pool: &AgentVMPool) -> Option<Policy> {
    world.fake.network().applied()?.policies.get(pool.metadata.uid.as_deref()?).cloned()
}

fn network_generation(pool: &AgentVMPool) -> Option<i64> {
    pool.status.as_ref()?.nodes.first()?.network_generation
}

fn said(pool: &AgentVMPool) -> String {
    condition(pool, "Ready").map(|ready| ready.message.clone()).unwrap_or_default()
}

fn allow(port: u16) -> Value {
    json!({"mode": "NatFiltered", "allow": [{"protocol": "TCP", "ports": [port],
        "cidrs": ["203.0.113.0/24"]}]})
}

#[tokio::test]
async fn every_machine_has_an_address_of_its_own_and_is_connected_under_its_pools_policy() {
    let world = World::new().await;
    let pool = connected(&world, "default", 3, json!({"mode": "NatFiltered"})).await;
    let machines = machines(&world).await;
    let addresses: BTreeSet<_> =
        machines.iter().filter_map(|m| m.record.nic.as_ref()?.address()).collect();
    assert_eq!((machines.len(), addresses.len()), (3, 3));
    assert!(machines.iter().all(|machine| world.fake.is_open(&machine.record.name)));
    let in_force = policy(&world, &pool).unwrap();
    assert_eq!(
        (Some(in_force.generation), network_generation(&pool)),
        (pool.metadata.generation, Some(1))
    );
}

#[tokio::test]
async fn a_changed_policy_reaches_machines_that_run_within_a_second() {
    let world = World::new().await;
    let pool = connected(&world, "default", 1, json!({"mode": "NatFiltered"})).await;
    let gate = world.outside("gate");
    world
        .script("run", &format!("until [ -e {} ]; do sleep 0.02; done", gate.display()), json!({}))
        .await;
    let run = world.running("run").await;
    let machine = run.status.as_ref().unwrap().attempts[0].vm_name.clone();
    let closed = world.fake.faults().calls(Op::CloseLink);
    let changed = Instant::now();
    world.patch::<AgentVMPool>("default", json!({"spec": {"network": allow(8080)}})).await;
    let follows = || async { policy(&world, &pool).is_some_and(|policy| policy.generation == 2) };
    wait_until_async("the policy follows", follows).await;
    assert!(changed.elapsed() < Duration::from_secs(1), "{:?}", changed.elapsed());
    assert_eq!(policy(&world, &pool).unwrap().allow.len(), 1);
    // No machine was cut off for that.
    let name = agentvm_core::names::DomainName::from_recorded(machine);
    assert!(world.fake.is_open(&name) && world.fake.faults().calls(Op::CloseLink) == closed);
    let says = |pool: &AgentVMPool| network_generation(pool) == Some(2);
    world.until("default", "the status says which generation", says).await;
    std::fs::write(gate, "").unwrap();
    assert_eq!(reason(&world.finished("run").await, "Succeeded"), "True/Completed");
}

#[tokio::test]
async fn without_a_policy_in_force_there_is_no_machine() {
    let mut world = World::at_rest().await;
    let refused = || {
        Fault::Fail(HvError::NetworkUnavailable {
            what: "set the rules".into(),
            detail: "there is no nft".into(),
        })
    };
    for nth in 1..=100 {
        world.fake.faults().nth(Op::ApplyPolicies, nth, refused());
    }
    world.start().await;
    pool_of_one(&world).await;
    let pool = world.says::<AgentVMPool>("default", "Ready", "False/NetworkUnavailable").await;
    assert!(
        said(&pool).contains("there is no nft") && network_generation(&pool).is_none(),
        "{}",
        said(&pool)
    );
    assert_eq!(machines(&world).await, []);
    world.fake.faults().clear();
    // The operator tries it again by itself.
    world.says::<AgentVMPool>("default", "Ready", "True/Filled").await;
}

#[tokio::test]
async fn a_machine_that_cannot_be_connected_is_not_lent() {
    let mut world = World::at_rest().await;
    let refused = || {
        Fault::Fail(HvError::NetworkUnavailable {
            what: "connect it".into(),
            detail: "the bridge is gone".into(),
        })
    };
    world.fake.faults().next(Op::OpenLink, refused());
    world.start().await;
    pool_of_one(&world).await;
    let pool = world.says::<AgentVMPool>("default", "Ready", "False/NetworkUnavailable").await;
    assert!(said(&pool).contains("the bridge is gone"), "{}", said(&pool));
    assert_eq!(world.fake.faults().calls(Op::Park), 0);
    world.says::<AgentVMPool>("default", "Ready", "True/Filled").await;
}

#[tokio::test]
async fn a_subnet_without_addresses_is_said_with_its_name() {
    let mut world = World::at_rest().await;
    let full = || {
        let detail = "all 245 addresses of 192.168.101.0/24 are taken".into();
        Fault::Fail(HvError::NoCapacity { what: "connect it".into(), detail })
    };
    // The pool asks for the machines' subnet, and a template needs an address.
    for nth in 1..100 {
        world.fake.faults().nth(Op::Subnet, nth, full());
    }
    world.start().await;
    pool_of_one(&world).await;
    let golden = world.says::<GoldenSnapshot>("default", "Ready", "False/NoCapacity").await;
    assert!(condition(&golden, "Ready").unwrap().message.contains("192.168.101.0/24"));
    world.fake.faults().clear();
    world.says::<AgentVMPool>("default", "Ready", "True/Filled").await;
}

#[tokio::test]
async fn a_bridge_that_is_not_there_is_said_with_what_to_do() {
    let mut world = World::at_rest().await;
    world.config.defaults.network.allowed_bridges = vec!["no-such-br".to_owned()];
    world.start().await;
    let network = json!({"mode": "Bridge", "bridge": "no-such-br"});
    world.pool_with("default", json!({"warm": {"min": 1, "max": 1}, "network": network})).await;
    let pool = world.says::<AgentVMPool>("default", "Ready", "False/NetworkUnavailable").await;
    assert!(said(&pool).contains("ip link add no-such-br type bridge"), "{}", said(&pool));
    assert_eq!(machines(&world).await, []);
    // The pool in another mode is fine.
    let network = json!({"spec": {"network": {"mode": "NatFiltered", "bridge": null}}});
    world.patch::<AgentVMPool>("default", network).await;
    world.says::<AgentVMPool>("default", "Ready", "True/Filled").await;
}

#[tokio::test]
async fn a_network_that_cannot_be_is_refused_and_the_one_before_stays_in_force() {
    let world = World::new().await;
    let pool = connected(&world, "default", 1, allow(8080)).await;
    let wrong =
        json!({"spec": {"network": {"allow": [{"protocol": "TCP", "cidrs": ["10.1.2.3/8"]}]}}});
    world.patch::<AgentVMPool>("default", wrong).await;
    let refused = world.says::<AgentVMPool>("default", "Stalled", "True/InvalidSpec").await;
    assert_eq!(reason(&refused, "Ready"), "False/InvalidSpec");
    assert!(said(&refused).contains("spec.network.allow[0].cidrs[0]"), "{}", said(&refused));
    assert_eq!(policy(&world, &pool).unwrap().generation, 1);
}

#[tokio::test]
async fn private_networks_and_bridges_are_the_administrators_list() {
    let world = World::new().await;
    let bridge = json!({"mode": "Bridge", "bridge": "br0"});
    let private = json!({"allow": [{"protocol": "TCP", "cidrs": ["10.1.2.3/32"]}]});
    for (name, network, path, key) in [
        ("bridged", bridge, "spec.network.bridge", "network.allowed_bridges"),
        ("inside", private, "spec.network.allow[0].cidrs[0]", "network.allowed_private_cidrs"),
    ] {
        world.pool_with(name, json!({"network": network})).await;
        let pool = world.says::<AgentVMPool>(name, "Stalled", "True/InvalidSpec").await;
        assert!(said(&pool).contains(path) && said(&pool).contains(key), "{}", said(&pool));
    }
}

#[tokio::test]
async fn a_pool_without_a_machine_has_no_rules_and_one_pools_failure_is_its_own() {
    let world = World::new().await;
    let empty = json!({"warm": {"min": 0, "max": 1}, "network": {"mode": "NatFiltered"}});
    let idle = world.pool_with("idle", empty).await;
    let first = connected(&world, "first", 1, allow(8080)).await;
    assert!(policy(&world, &first).is_some() && policy(&world, &idle).is_none());
    // The rules of this pool alone can't be changed.
    let refused = || {
        let detail = "no memory".to_owned();
        Fault::Fail(HvError::NetworkUnavailable { what: "set the rules".into(), detail })
    };
    for nth in 1..=100 {
        world.fake.faults().nth(Op::ApplyPolicies, nth, refused());
    }
    world.patch::<AgentVMPool>("first", json!({"spec": {"network": allow(8081)}})).await;
    world.says::<AgentVMPool>("first", "Degraded", "True/NetworkUnavailable").await;
    assert_eq!(policy(&world, &first).unwrap().generation, 1, "the earlier rules hold");
    world.fake.faults().clear();
    let second = connected(&world, "second", 1, allow(8080)).await;
    assert!(policy(&world, &second).is_some(), "another pool goes on");
    // A run comes, so a machine is about to exist, and with it the rules.
    world.script("run", "true", json!({"poolRef": {"name": "idle"}})).await;
    assert_eq!(reason(&world.finished("run").await, "Succeeded"), "True/Completed");
    assert!(policy(&world, &idle).is_some());
}

#[tokio::test]
async fn what_no_policy_opens_is_where_machines_really_are() {
    let mut world = World::at_rest().await;
    world.fake.network().set_gateway([192, 168, 104, 1].into());
    let private = "192.168.0.0/16".parse().unwrap();
    world.config.defaults.network.allowed_private_cidrs = vec![private];
    world.start().await;
    let open = |cidr| json!({"allow": [{"protocol": "TCP", "cidrs": [cidr]}]});
    // Another network of this host has the usual addresses: a pool may name them.
    connected(&world, "default", 1, open("192.168.101.7/32")).await;
    for network in [open("192.168.104.7/32"), json!({"allow": [], "resolver": "192.168.104.1"})] {
        let path = if network["resolver"].is_null() {
            "spec.network.allow[0].cidrs[0]"
        } else {
            "spec.network.resolver"
        };
        world.patch::<AgentVMPool>("default", json!({"spec": {"network": network}})).await;
        let refused = |pool: &AgentVMPool| {
            said(pool).contains(path) && said(pool).contains("192.168.104.0/24")
        };
        world.until("default", "it is refused", refused).await;
    }
}

#[tokio::test]
async fn a_pool_has_the_limits_of_its_goldens_profile() {
    let world = World::new().await;
    let small = json!({"source": {"builtin": "Debian"}, "resources": {"profile": "Light"}});
    world.create::<GoldenSnapshot>("small", small).await;
    let spec = json!({"goldenSnapshotRef": {"name": "small"}, "warm": {"min": 1, "max": 1},
        "limits": {"connections": 99}});
    world.create::<AgentVMPool>("pool", spec).await;
    let pool = world.says::<AgentVMPool>("pool", "Ready", "True/Filled").await;
    let limits = policy(&world, &pool).unwrap().limits;
    assert_eq!((limits.packets_per_second, limits.connections), (10_000, 99));
    let told = pool.status.unwrap().nodes[0].limits.unwrap();
    assert_eq!(
        (told.packets_per_second, told.connections, told.processes),
        (Some(10_000), Some(99), 2048)
    );
}

#[tokio::test]
async fn an_isolated_pool_asks_the_host_for_no_network() {
    let world = World::new().await;
    world.warm_pool("default", 1, 1).await;
    world.script("run", "true", json!({})).await;
    world.finished("run").await;
    for op in [Op::Subnet, Op::ApplyPolicies, Op::OpenLink, Op::CloseLink] {
        assert_eq!(world.fake.faults().calls(op), 0, "{op:?}");
    }
}

#[tokio::test]
async fn a_machine_is_cut_off_before_it_is_brought_back_and_connected_again_after() {
    let world = World::new().await;
    let open_while_reset = Arc::new(Mutex::new(Vec::new()));
    let (fake, seen) = (world.fake.clone(), open_while_reset.clone());
    world.fake.knobs().set_hook(StepHook::new(move |name, step| {
        if matches!(step, Step::Reset(ResetStep::Stop)) {
            seen.lock().unwrap().push(fake.is_open(name));
        }
        HookAction::Go
    }));
    connected(&world, "default", 1, json!({"mode": "NatFiltered"})).await;
    for name in ["one", "two"] {
        world.script(name, "true", json!({})).await;
        world.finished(name).await;
    }
    let back = || async { open_while_reset.lock().unwrap().len() == 2 };
    wait_until_async("both machines were brought back", back).await;
    assert_eq!(*open_while_reset.lock().unwrap(), [false, false]);
    let again = || async {
        let all = machines(&world).await;
        !all.is_empty() && all.iter().all(|machine| world.fake.is_open(&machine.record.name))
    };
    wait_until_async("they are connected again", again).await;
}

#[tokio::test]
async fn idle_machines_that_were_told_another_resolver_are_replaced() {
    let world = World::new().await;
    let network = |resolver| json!({"mode": "NatFiltered", "resolver": resolver});
    connected(&world, "default", 1, network("203.0.113.53")).await;
    let before = machines(&world).await[0].record.nonce.clone();
    world
        .patch::<AgentVMPool>("default", json!({"spec": {"network": network("203.0.113.54")}}))
        .await;
    let replaced = || async {
        let all = machines(&world).await;
        all.len() == 1 && all[0].record.nonce != before && world.fake.is_open(&all[0].record.name)
    };
    wait_until_async("another machine is there", replaced).await;
}

#[tokio::test]
async fn a_pool_that_asks_for_ipv6_has_machines_with_it_and_one_that_goes_back_has_none() {
    let world = World::new().await;
    let families = |families: Value| json!({"mode": "NatFiltered", "ipFamilies": families});
    let pool = connected(&world, "default", 2, families(json!(["IPv4", "IPv6"]))).await;
    let six = |machines: &[Machine]| -> BTreeSet<_> {
        machines.iter().filter_map(|machine| machine.record.nic.as_ref()?.ipv6()).collect()
    };
    let before = machines(&world).await;
    assert_eq!(six(&before).len(), 2);
    assert!(policy(&world, &pool).unwrap().ipv6 && world.fake.faults().calls(Op::Ipv6) >= 1);
    world
        .patch::<AgentVMPool>("default", json!({"spec": {"network": families(json!(["IPv4"]))}}))
        .await;
    let replaced = || async {
        let all = machines(&world).await;
        all.len() == 2
            && six(&all).is_empty()
            && all.iter().all(|machine| world.fake.is_open(&machine.record.name))
    };
    wait_until_async("machines without it are there", replaced).await;
    assert!(!policy(&world, &pool).unwrap().ipv6);
}

#[tokio::test]
async fn a_host_that_can_not_route_ipv6_has_no_machines_for_it_and_others_all_the_same() {
    let world = World::new().await;
    let detail = "this host's interface eth0 has its IPv6 route from a router's announcements";
    let refuse = || {
        Fault::Fail(HvError::NetworkUnavailable {
            what: "route IPv6 for machines".into(),
            detail: detail.into(),
        })
    };
    for nth in 1..=100 {
        world.fake.faults().nth(Op::Ipv6, nth, refuse());
    }
    connected(&world, "default", 1, json!({"mode": "NatFiltered"})).await;
    let network = json!({"mode": "NatFiltered", "ipFamilies": ["IPv4", "IPv6"]});
    world.pool_with("dual", json!({"warm": {"min": 1, "max": 2}, "network": network})).await;
    let dual = world.says::<AgentVMPool>("dual", "Ready", "False/NetworkUnavailable").await;
    assert!(said(&dual).contains(detail), "{}", said(&dual));
    assert_eq!(machines(&world).await.len(), 1);
}

#[tokio::test]
async fn links_outlive_the_operator_and_addresses_are_not_given_twice() {
    let mut world = World::new().await;
    connected(&world, "default", 2, json!({"mode": "NatFiltered"})).await;
    let address = |machine: &Machine| machine.record.nic.as_ref().unwrap().address().unwrap();
    let before: BTreeSet<_> = machines(&world).await.iter().map(address).collect();
    world.stop(Duration::from_secs(5), false).await;
    let (opened, closed) =
        (world.fake.faults().calls(Op::OpenLink), world.fake.faults().calls(Op::CloseLink));
    world.start().await;
    world.patch::<AgentVMPool>("default", json!({"spec": {"warm": {"min": 3, "max": 4}}})).await;
    let three = || async {
        machines(&world).await.iter().filter(|m| world.fake.is_open(&m.record.name)).count() == 3
    };
    wait_until_async("three are connected", three).await;
    let after: BTreeSet<_> = machines(&world).await.iter().map(address).collect();
    assert!(after.is_superset(&before) && after.len() == 3, "{before:?} {after:?}");
    // The earlier machines were left alone.
    let faults = world.fake.faults();
    assert_eq!((faults.calls(Op::OpenLink), faults.calls(Op::CloseLink)), (opened + 1, closed));
}

#[tokio::test]
async fn a_deleted_pools_policy_goes_with_its_last_machine() {
    let world = World::new().await;
    let pool = connected(&world, "default", 1, json!({"mode": "NatFiltered"})).await;
    let gate = world.outside("gate");
    world
        .script("run", &format!("until [ -e {} ]; do sleep 0.02; done", gate.display()), json!({}))
        .await;
    let run: AgentRun = world.running("run").await;
    world.delete::<AgentVMPool>("default").await;
    world.gone::<AgentVMPool>("default").await;
    let name = agentvm_core::names::DomainName::from_recorded(
        run.status.unwrap().attempts[0].vm_name.clone(),
    );
    // Another pool's policy, made since, is gone again: so the sweep has come round.
    let other = connected(&world, "other", 1, json!({"mode": "NatFiltered"})).await;
    world.delete::<AgentVMPool>("other").await;
    let gone = || async { policy(&world, &other).is_none() };
    wait_until_async("the other's policy is gone", gone).await;
    assert!(
        policy(&world, &pool).is_some() && world.fake.is_open(&name),
        "its machine is still at work"
    );
    std::fs::write(gate, "").unwrap();
    world.finished("run").await;
    let gone = || async { policy(&world, &pool).is_none() };
    wait_until_async("its policy is gone too", gone).await;
}

#[tokio::test]
async fn a_golden_is_captured_for_each_layout_that_pools_need_and_no_longer() {
    let world = World::new().await;
    let layouts = |golden: &GoldenSnapshot| -> Vec<String> {
        let nodes = golden.status.iter().flat_map(|status| &status.nodes);
        nodes
            .filter(|node| node.state == GoldenNodeState::Ready)
            .map(|node| node.layout.clone())
            .collect()
    };
    world.pool_with("default", json!({"warm": {"min": 1, "max": 1}})).await;
    world
        .until("default", "is captured without a network device", |golden| {
            layouts(golden) == ["Isolated"]
        })
        .await;
    let spec = json!({"goldenSnapshotRef": {"name": "default"}, "warm": {"min": 1, "max": 1}});
    world.create::<AgentVMPool>("connected", spec).await;
    world.until("default", "and with one", |golden| layouts(golden) == ["Isolated", "Nic"]).await;
    world.says::<AgentVMPool>("connected", "Ready", "True/Filled").await;
    let of = |machine: &Machine| {
        machine.record.nic.as_ref().map(|nic| matches!(nic.wire, Wire::Nat { .. }))
    };
    let nics: BTreeSet<_> = machines(&world).await.iter().map(of).collect();
    assert_eq!(nics, [None, Some(true)].into());
    world.delete::<AgentVMPool>("default").await;
    world.until("default", "what nobody needs is gone", |golden| layouts(golden) == ["Nic"]).await;
    assert_eq!(world.fake.goldens().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_setup_has_a_network_and_the_golden_has_none_of_it() {
    let world = World::new().await;
    let gate = world.outside("gate");
    let wait = format!("until [ -e {} ]; do sleep 0.02; done", gate.display());
    let steps = json!([{"command": ["bash", "-c", wait]}]);
    let spec = json!({"source": {"builtin": "Debian"}, "setup": {"steps": steps}});
    let golden: GoldenSnapshot = world.create("golden", spec).await;
    let uid = golden.metadata.uid.unwrap();
    let template = || async {
        world.fake.list().await.unwrap().first().map(|machine| machine.record.name.clone())
    };
    let open = || async { template().await.is_some_and(|name| world.fake.is_open(&name)) };
    wait_until_async("the setup is connected", open).await;
    assert!(world.fake.network().applied().unwrap().policies.contains_key(uid.as_str()));
    std::fs::write(gate, "").unwrap();
    world.says::<GoldenSnapshot>("golden", "Ready", "True/Captured").await;
    assert!(!world.fake.network().applied().unwrap().policies.contains_key(uid.as_str()));
    assert_eq!(world.fake.faults().calls(Op::CloseLink), 1);
    let quiet = json!({"steps": [{"command": ["true"]}], "network": {"mode": "Isolated"}});
    world
        .create::<GoldenSnapshot>("quiet", json!({"source": {"builtin": "Debian"}, "setup": quiet}))
        .await;
    world.says::<GoldenSnapshot>("quiet", "Ready", "True/Captured").await;
    assert_eq!(world.fake.faults().calls(Op::OpenLink), 1, "one that asks for none has none");
}
