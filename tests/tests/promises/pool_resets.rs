//! A pool's status tells about resets: machines in quarantine, the tier in use, the reason why no
//! better tier is, and tiers that fail.

use agentvm_crds::{AgentVMPool, PoolNode};
use agentvm_hypervisor::Tier;
use agentvm_testing::wait_until_async;
use agentvm_tests::World;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::json;

fn node(pool: &AgentVMPool) -> Option<&PoolNode> {
    pool.status.as_ref()?.nodes.first()
}

async fn run(world: &World, name: &str) {
    world.script(name, "true", json!({})).await;
    world.finished(name).await;
}

/// The pool as soon as the entry of its only node fits.
async fn entry(world: &World, what: &str, holds: impl Fn(&PoolNode) -> bool) -> PoolNode {
    let pool =
        world.until("default", what, |pool: &AgentVMPool| node(pool).is_some_and(&holds)).await;
    node(&pool).unwrap().clone()
}

#[tokio::test]
async fn quarantine_is_counted_and_yields_to_machines_that_are_needed() {
    let world = World::new().await;
    world.pool_with("default", json!({"warm": {"min": 1, "max": 2}})).await;
    entry(&world, "resets in place are tested", |node| node.tier == "InPlace" && node.warm == 1)
        .await;
    world.fake.knobs().sabotage("memory", 1);
    run(&world, "first").await;
    let kept = entry(&world, "one in quarantine, one ready", |node| {
        node.quarantined == 1 && node.warm == 1
    })
    .await;
    assert_eq!(kept.total, 2, "it takes a place");
    assert!(kept.message.contains("1 quarantined"), "{}", kept.message);
    world.says::<AgentVMPool>("default", "Ready", "True/Filled").await;
    world.patch::<AgentVMPool>("default", json!({"spec": {"warm": {"min": 2}}})).await;
    let filled = entry(&world, "its place is taken", |node| node.warm == 2).await;
    assert_eq!((filled.quarantined, filled.total), (0, 2));
}

#[tokio::test]
async fn the_way_in_use_is_named_with_what_keeps_it_from_being_better() {
    let mut world = World::at_rest().await;
    world.fake.knobs().set_tiers(Tier::Fresh, "InPlace: the library is missing");
    world.start().await;
    world.pool_with("default", json!({"warm": {"min": 1, "max": 1}})).await;
    let missing =
        |node: &PoolNode| node.tier_message.as_deref() == Some("InPlace: the library is missing");
    assert_eq!(entry(&world, "the reason is told", missing).await.tier, "Fresh");
    world.patch::<AgentVMPool>("default", json!({"spec": {"reusePolicy": "Never"}})).await;
    let asked = |node: &PoolNode| {
        node.tier_message.as_ref().is_some_and(|why| why.contains("spec.reusePolicy: Never"))
    };
    assert_eq!(entry(&world, "it is what was asked for", asked).await.tier, "Fresh");
}

#[tokio::test]
async fn resets_that_fail_again_and_again_degrade_the_pool_with_an_event_and_leave_it_ready() {
    let world = World::new().await;
    world.pool_with("default", json!({"warm": {"min": 1, "max": 1}, "quarantineSeconds": 0})).await;
    entry(&world, "resets in place are tested", |node| node.tier == "InPlace" && node.warm == 1)
        .await;
    world.fake.knobs().sabotage("disk", 3);
    for n in 0..3 {
        run(&world, &format!("run-{n}")).await;
    }
    let pool = world.says::<AgentVMPool>("default", "Degraded", "True/ResetFailing").await;
    let fallen = node(&pool).unwrap();
    assert_eq!(fallen.tier, "Fresh");
    assert!(fallen.reset_trouble.as_ref().unwrap().contains("disk"), "{fallen:?}");
    world.says::<AgentVMPool>("default", "Ready", "True/Filled").await;
    let told = || async {
        let all = world.bench.api::<Event>().list(&ListParams::default()).await.unwrap();
        all.items.iter().any(|event| event.reason.as_deref() == Some("ResetFailing"))
    };
    wait_until_async("an Event tells it", told).await;
}
