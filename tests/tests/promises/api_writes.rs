//! A run costs the API server at most five writes of the operator from create to `Succeeded`,
//! Events included.
//!
//! The operator's own client counts them on their way to a real API server. Writes of pools are
//! paced apart from runs, and are printed too.

use std::time::Duration;

use agentvm_crds::AgentVMPool;
use agentvm_testing::wait_until_async;
use agentvm_tests::{Sent, World};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::json;
use tokio::time::Instant;

const MOST: usize = 5;

/// The reasons of the Events about an object.
async fn events(world: &World, name: &str) -> Vec<String> {
    let all = world.bench.api::<Event>().list(&ListParams::default()).await.unwrap();
    let about = all
        .items
        .into_iter()
        .filter(|event| event.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(name));
    about.filter_map(|event| event.reason).collect()
}

/// Returns when the operator has written nothing for a while.
async fn quiet(world: &World) {
    let (mut count, mut since) = (world.wire.writes().len(), Instant::now());
    let look = || {
        let now = world.wire.writes().len();
        if now != count {
            (count, since) = (now, Instant::now());
        }
        let still = since.elapsed() > Duration::from_millis(1500);
        async move { still }
    };
    wait_until_async("the operator is quiet", look).await;
}

fn of<'a>(writes: &'a [Sent], part: &'a str) -> usize {
    writes.iter().filter(|sent| sent.path.contains(part)).count()
}

#[tokio::test]
async fn a_run_that_finds_a_machine() {
    let world = World::new().await;
    world.warm_pool("default", 2, 2).await;
    quiet(&world).await;
    let before = world.wire.writes().len();
    world.script("run", "echo done", json!({})).await;
    world.finished("run").await;
    wait_until_async("its Event is written", || async {
        events(&world, "run").await == ["Completed"]
    })
    .await;
    quiet(&world).await;
    let writes = world.wire.writes().split_off(before);
    let (status, events, pool) =
        (of(&writes, "/agentruns/run"), of(&writes, "/events"), of(&writes, "/agentvmpools/"));
    println!(
        "a run that finds a machine: {status} statuses, {events} Events; its pool meanwhile: \
            {pool} statuses"
    );
    assert!(status + events < MOST, "with the user's own create it is at most {MOST}: {writes:#?}");
    assert_eq!(status + events + pool, writes.len(), "{writes:#?}");
    assert!(pool <= 4, "{writes:#?}");
}

#[tokio::test]
async fn runs_that_wait_in_line() {
    let world = World::new().await;
    world.warm_pool("default", 2, 2).await;
    quiet(&world).await;
    let before = world.wire.writes().len();
    let names: Vec<String> = (0..6).map(|n| format!("run-{n}")).collect();
    for name in &names {
        world.script(name, "sleep 0.2", json!({})).await;
    }
    for name in &names {
        world.finished(name).await;
    }
    quiet(&world).await;
    let writes = world.wire.writes().split_off(before);
    let statuses: Vec<usize> =
        names.iter().map(|name| of(&writes, &format!("/agentruns/{name}/"))).collect();
    let events = of(&writes, "/events");
    println!("six runs on two machines: {statuses:?} statuses, {events} Events in all");
    assert!(
        statuses.iter().all(|count| *count <= MOST - 2),
        "with Event and create it is at most {MOST}: {statuses:?}"
    );
    assert_eq!(events, names.len());
}

#[tokio::test]
async fn a_run_that_comes_before_its_pool_is_ready() {
    let world = World::new().await;
    world.pool("default", 1, 1).await;
    world.script("early", "true", json!({})).await;
    world.finished("early").await;
    quiet(&world).await;
    let writes = world.wire.writes();
    let statuses = of(&writes, "/agentruns/early/");
    println!("a run that comes before its pool is ready: {statuses} statuses, one Event");
    assert!(statuses < MOST, "{writes:#?}");
}

#[tokio::test]
async fn nothing_is_written_while_nothing_changes() {
    let world = World::new().await;
    // There is no room for a third machine: a surplus machine would linger, and its end is a
    // change.
    world.warm_pool("default", 2, 2).await;
    world.script("run", "true", json!({})).await;
    world.finished("run").await;
    let full = |pool: &AgentVMPool| {
        pool.status.as_ref().is_some_and(|status| status.warm == 2 && status.claimed == 0)
    };
    world.until("default", "full again", full).await;
    quiet(&world).await;
    let before = world.wire.writes().len();
    // Longer than every timer that looks without an event, but the slowest.
    let end = Instant::now() + Duration::from_secs(12);
    wait_until_async("some time", || async { Instant::now() > end }).await;
    assert_eq!(world.wire.writes().split_off(before), []);
}
