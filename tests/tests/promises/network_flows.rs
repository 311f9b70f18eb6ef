//! The network attempts of runs are visible: in their status, in an Event, in metrics. They are
//! bounded whatever runs try.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use agentvm_core::names::DomainName;
use agentvm_core::network::{Destination, Flow, FlowVerdict, Protocol, Target, TargetKind};
use agentvm_crds::{AgentRun, AgentVMPool, RunNetwork};
use agentvm_hypervisor::{MachineApi, Traffic};
use agentvm_operator::metrics::Metrics;
use agentvm_testing::wait_until_async;
use agentvm_tests::World;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::json;

const REASON: &str = "NetworkDenied";

/// A world with a pool of one connected machine, and an operator that measures.
async fn world() -> (World, Metrics) {
    let mut world = World::at_rest().await;
    let metrics = Metrics::new().unwrap();
    world.config.metrics = metrics.clone();
    world.start().await;
    let connected = json!({"warm": {"min": 1, "max": 1}, "network": {"mode": "NatFiltered"}});
    world.pool_with("default", connected).await;
    world.says::<AgentVMPool>("default", "Ready", "True/Filled").await;
    (world, metrics)
}

fn flow(machine: &DomainName, verdict: FlowVerdict, to: [u8; 4], port: u16) -> Flow {
    let to = Destination::Address(IpAddr::V4(Ipv4Addr::from(to)));
    let target = Target { kind: TargetKind::Ip(Protocol::Tcp), to, port: Some(port) };
    Flow { machine: machine.clone(), at: Instant::now(), verdict, target }
}

/// Starts a run that ends when the test lets it go; returns its machine.
async fn begun(world: &World, name: &str) -> DomainName {
    let (begun, gate) =
        (world.outside(&format!("{name}-begun")), world.outside(&format!("{name}-gate")));
    let script =
        format!("touch {}; until [ -e {} ]; do sleep 0.02; done", begun.display(), gate.display());
    world.script(name, &script, json!({})).await;
    wait_until_async("the run has begun", || async { begun.exists() }).await;
    DomainName::from_recorded(world.running(name).await.status.unwrap().vm_name.unwrap())
}

async fn let_go(world: &World, name: &str) -> RunNetwork {
    std::fs::write(world.outside(&format!("{name}-gate")), "").unwrap();
    world.finished(name).await.status.unwrap().network.unwrap()
}

/// Events about a run.
async fn events(world: &World, run: &str) -> Vec<Event> {
    let all = world.bench.api::<Event>().list(&ListParams::default()).await.unwrap();
    let about =
        |event: &Event| event.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(run);
    all.items.into_iter().filter(about).collect()
}

/// The denials that they name.
async fn told(world: &World, run: &str) -> Vec<String> {
    let denied = events(world, run)
        .await
        .into_iter()
        .filter(|event| event.reason.as_deref() == Some(REASON));
    denied.map(|event| event.note.unwrap_or_default()).collect()
}

/// The writes to a run and about it. No write was repeated.
async fn writes(world: &World, run: &str) -> usize {
    let statuses = world
        .wire
        .writes()
        .iter()
        .filter(|sent| sent.path.contains(&format!("/agentruns/{run}/")))
        .count();
    let events = events(world, run).await;
    assert!(events.iter().all(|event| event.series.is_none()), "{events:?}");
    statuses + events.len()
}

#[tokio::test]
async fn a_run_that_is_denied_something_says_so_and_what_to_do_about_it() {
    let (world, metrics) = world().await;
    let machine = begun(&world, "curious").await;
    for (verdict, to, port) in [
        (FlowVerdict::Allowed, [203, 0, 113, 9], 443),
        (FlowVerdict::Denied, [203, 0, 113, 9], 8080),
        (FlowVerdict::Denied, [203, 0, 113, 9], 8080),
        (FlowVerdict::Denied, [169, 254, 169, 254], 80),
    ] {
        assert!(world.fake.network().send(flow(&machine, verdict, to, port)));
    }
    let traffic = Traffic { allowed: 5, denied: 12, received_bytes: 3000, sent_bytes: 200 };
    world.fake.network().set_traffic(&machine, traffic);
    wait_until_async("an Event while it runs", || async {
        told(&world, "curious").await.len() == 1
    })
    .await;
    let event = told(&world, "curious").await.remove(0);
    let pool = format!("{}/default", world.bench.namespace);
    for part in [
        &pool,
        "add to spec.network.allow: {protocol: TCP, ports: [8080], cidrs: [203.0.113.9/32]}",
        "metadata",
    ] {
        assert!(event.contains(part), "{part} is not in {event}");
    }

    let network = let_go(&world, "curious").await;
    assert_eq!((network.allowed, network.denied), (5, 12), "what the rules counted");
    let top: Vec<_> = network
        .top_denied
        .iter()
        .map(|d| (&*d.destination, d.port, &*d.protocol, d.count))
        .collect();
    assert_eq!(
        top,
        [("203.0.113.9", Some(8080), "TCP", 2), ("169.254.169.254", Some(80), "TCP", 1)]
    );
    wait_until_async("its end is told too", || async { writes(&world, "curious").await == 4 })
        .await;
    let text = metrics.text();
    for line in [
        format!("agent_vm_network_connections_total{{pool_id=\"{pool}\",verdict=\"allowed\"}} 5"),
        format!("agent_vm_network_connections_total{{pool_id=\"{pool}\",verdict=\"denied\"}} 12"),
        format!("agent_vm_network_receive_bytes_total{{vm_id=\"{machine}\"}} 3000"),
        format!("agent_vm_network_transmit_bytes_total{{vm_id=\"{machine}\"}} 200"),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_thousand_denied_destinations_stay_small() {
    let (world, _) = world().await;
    let machine = begun(&world, "scan").await;
    for n in 0..1000_u16 {
        let [high, low] = n.to_be_bytes();
        assert!(world.fake.network().send(flow(
            &machine,
            FlowVerdict::Denied,
            [10, 9, high, low],
            22
        )));
    }
    wait_until_async("an Event", || async { !told(&world, "scan").await.is_empty() }).await;
    let network = let_go(&world, "scan").await;
    assert_eq!((network.denied, network.top_denied.len()), (1000, 10));
    wait_until_async("its end is told too", || async { writes(&world, "scan").await >= 4 }).await;
    let events = told(&world, "scan").await;
    assert!(events.len() == 1 && events[0].len() <= 1000, "{events:?}");
    assert!(events[0].contains("10.9.0.0 port 22") && events[0].ends_with("more"), "{events:?}");
    assert_eq!(writes(&world, "scan").await, 4);
}

#[tokio::test]
async fn a_run_that_is_over_before_anyone_looked_is_told_of_all_the_same() {
    let (world, _) = world().await;
    let machine = begun(&world, "hasty").await;
    world.fake.network().send(flow(&machine, FlowVerdict::Limited, [203, 0, 113, 9], 443));
    assert_eq!(let_go(&world, "hasty").await.denied, 1);
    wait_until_async("an Event after its end", || async {
        !told(&world, "hasty").await.is_empty()
    })
    .await;
    assert!(told(&world, "hasty").await[0].contains("raise spec.limits"));
    let next = begun(&world, "next").await;
    assert_eq!(next, machine);
    let network = let_go(&world, "next").await;
    assert_eq!(network, RunNetwork::default(), "what the run before did is not its doing");
    assert_eq!(told(&world, "next").await, Vec::<String>::new());
}

#[tokio::test]
async fn what_nobody_s_machine_does_is_nobody_s() {
    let (world, _) = world().await;
    let machine = world.fake.list().await.unwrap().remove(0).record.name;
    for port in 1..200 {
        world.fake.network().send(flow(&machine, FlowVerdict::Denied, [203, 0, 113, 9], port));
    }
    let taken = begun(&world, "later").await;
    let network = let_go(&world, "later").await;
    assert_eq!((taken, network), (machine, RunNetwork::default()));
}

#[tokio::test]
async fn a_run_without_a_network_says_nothing_of_one() {
    let world = World::new().await;
    world.warm_pool("default", 1, 1).await;
    world.script("quiet", "true", json!({})).await;
    let run: AgentRun = world.finished("quiet").await;
    assert_eq!(run.status.unwrap().network, None);
}
