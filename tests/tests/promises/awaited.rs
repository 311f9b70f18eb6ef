//! A run that waits takes a machine as soon as it is proven. Only a machine that no run waits for
//! is rehearsed and parked.

use std::time::Duration;

use agentvm_crds::{AgentRun, AgentVMPool, PoolNode};
use agentvm_hypervisor::fake::{Fault, Op};
use agentvm_testing::wait_until_async;
use agentvm_tests::{World, reason};
use serde_json::json;

/// A pool of one machine that is reset in place.
async fn world() -> World {
    let world = World::new().await;
    world.pool_with("default", json!({"warm": {"min": 1, "max": 1}})).await;
    let settled = |node: &PoolNode| node.tier == "InPlace" && node.warm == 1;
    world
        .until("default", "resets in place are tested", |pool: &AgentVMPool| {
            pool.status.as_ref().is_some_and(|status| status.nodes.iter().any(settled))
        })
        .await;
    world
}

#[tokio::test]
async fn a_queue_is_worked_off_without_a_park_in_between() {
    let world = world().await;
    let (parks, resets) =
        (world.fake.faults().calls(Op::Park), world.fake.faults().calls(Op::Reset));
    let names: Vec<String> = (0..8).map(|n| format!("run-{n}")).collect();
    for name in &names {
        world.script(name, "true", json!({})).await;
    }
    for name in &names {
        assert_eq!(reason(&world.finished(name).await, "Succeeded"), "True/Completed");
    }
    let faults = world.fake.faults();
    assert!(faults.calls(Op::Reset) - resets >= 7, "a machine is reset before each next run");
    let parked = faults.calls(Op::Park) - parks;
    assert!(parked <= 2, "{parked} parks, though runs waited");
}

#[tokio::test]
async fn a_machine_that_the_waiting_run_does_not_take_is_parked_and_lent_later() {
    let world = world().await;
    world.fake.faults().next(Op::Reset, Fault::Delay(Duration::from_secs(2)));
    let resets = world.fake.faults().calls(Op::Reset);
    world.script("first", "true", json!({})).await;
    world.script("second", "true", json!({})).await;
    world.finished("first").await;
    wait_until_async("the reset begins while a run waits", async || {
        world.fake.faults().calls(Op::Reset) > resets
    })
    .await;
    let parks = world.fake.faults().calls(Op::Park);
    world.delete::<AgentRun>("second").await;
    wait_until_async("the machine is parked", async || world.fake.faults().calls(Op::Park) > parks)
        .await;
    world.script("third", "true", json!({})).await;
    assert_eq!(reason(&world.finished("third").await, "Succeeded"), "True/Completed");
}
