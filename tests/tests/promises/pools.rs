//! A pool keeps machines ready: never more than `max`, and never fewer than it can. If it cannot,
//! it says why.

use std::collections::HashSet;
use std::time::Duration;

use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot};
use agentvm_hypervisor::fake::{Fault, Op};
use agentvm_hypervisor::{HvError, MachineApi};
use agentvm_testing::wait_until_async;
use agentvm_tests::{World, condition, reason};
use agentvm_types::{Nonce, OwnerUid};
use serde_json::json;
use tokio::time::Instant;

fn counts(pool: &AgentVMPool) -> (i32, i32, i32) {
    pool.status.as_ref().map_or((0, 0, 0), |status| (status.warm, status.claimed, status.creating))
}

fn said(pool: &AgentVMPool) -> &str {
    condition(pool, "Ready").map_or("", |ready| ready.message.as_str())
}

fn warm(want: i32) -> impl Fn(&AgentVMPool) -> bool {
    move |pool| counts(pool) == (want, 0, 0)
}

async fn nonces(world: &World) -> HashSet<Nonce> {
    world.fake.list().await.unwrap().into_iter().map(|machine| machine.record.nonce).collect()
}

fn until_there(world: &World) -> String {
    format!("until [ -e {} ]; do sleep 0.02; done", world.outside("gate").display())
}

fn open_gate(world: &World) {
    std::fs::write(world.outside("gate"), "").unwrap();
}

#[tokio::test]
async fn it_fills_to_min_grows_with_the_queue_to_max_and_shrinks_again() {
    let world = World::new().await;
    let pool = world.warm_pool("default", 1, 3).await;
    assert_eq!(
        (reason(&pool, "Ready"), reason(&pool, "Reconciling")),
        ("True/Filled".into(), String::new())
    );
    assert_eq!(
        reason(&pool, "Degraded"),
        "True/SoftwareEmulation",
        "the fake is no KVM, and it is said"
    );
    for n in 0..4 {
        world.script(&format!("run-{n}"), &until_there(&world), json!({})).await;
    }
    let busy =
        |pool: &AgentVMPool| counts(pool) == (0, 3, 0) && reason(pool, "Ready") == "True/Busy";
    let pool = world.until("default", "all at work", busy).await;
    assert!(said(&pool).contains("max 3 is reached"), "{}", said(&pool));
    open_gate(&world);
    world.until("default", "one is kept", warm(1)).await;
    assert_eq!(world.fake.peak(&OwnerUid::new(pool.metadata.uid.unwrap())), 3);
}

#[tokio::test]
async fn never_more_than_max_whatever_fails() {
    let world = World::new().await;
    let faults = world.fake.faults();
    for nth in 0..40 {
        let refused = || HvError::Refused { what: "do it".into(), detail: "injected".into() };
        match nth % 5 {
            1 => faults.nth(Op::Create, nth, Fault::DoneButUnknown),
            2 => faults.nth(Op::Create, nth, Fault::Fail(refused())),
            3 => faults.nth(Op::Destroy, nth, Fault::Fail(refused())),
            4 => faults.nth(Op::Connect, nth, Fault::Fail(refused())),
            _ => {}
        }
    }
    let pool = world.pool("default", 2, 3).await;
    for n in 0..6 {
        world.script(&format!("run-{n}"), "true", json!({"backoffLimit": 10})).await;
    }
    // Each failure holds creation up for longer. A machine that is proven needs no creation.
    let some = |run: &AgentRun| reason(run, "Succeeded") == "True/Completed";
    world.until("run-0", "done", some).await;
    faults.clear();
    for n in 1..6 {
        world.until(&format!("run-{n}"), "done", some).await;
    }
    let peak = world.fake.peak(&OwnerUid::new(pool.metadata.uid.unwrap()));
    assert!(peak <= 3, "{peak} machines at once");
}

#[tokio::test]
async fn scale_changes_min() {
    let world = World::new().await;
    world.warm_pool("default", 1, 3).await;
    let scaled = world.bench.kubectl(&["scale", "avmp/default", "--replicas", "3"]).await.unwrap();
    assert!(scaled.status.success(), "{scaled:?}");
    world.until("default", "grown", warm(3)).await;
    let before = nonces(&world).await;
    world.bench.kubectl(&["scale", "avmp/default", "--replicas", "1"]).await.unwrap();
    world.until("default", "shrunk", warm(1)).await;
    let kept = || async { nonces(&world).await.len() == 1 };
    wait_until_async("two are gone", kept).await;
    assert!(before.is_superset(&nonces(&world).await), "none was made anew");
}

#[tokio::test]
async fn idle_machines_are_replaced_when_they_are_old_or_dead_or_of_another_golden() {
    let world = World::new().await;
    world
        .pool_with("default", json!({"warm": {"min": 1, "max": 2}, "healthCheckSeconds": 1}))
        .await;
    let fresh = async |before: &HashSet<Nonce>, what: &str| {
        let fresh = || async {
            let now = nonces(&world).await;
            now.len() == 1 && now.is_disjoint(before)
        };
        wait_until_async(what, fresh).await;
        world.until("default", what, warm(1)).await;
    };
    world.until("default", "filled", warm(1)).await;
    let machine = world.fake.list().await.unwrap().remove(0).record;
    world.fake.kill_machine(&machine.name).unwrap();
    fresh(&[machine.nonce].into(), "the dead one is replaced").await;
    let before = nonces(&world).await;
    world.patch::<AgentVMPool>("default", json!({"spec": {"ttlSeconds": 1}})).await;
    fresh(&before, "the old one is replaced").await;
    world.patch::<AgentVMPool>("default", json!({"spec": {"ttlSeconds": 3600}})).await;
    let setup =
        json!({"source": {"builtin": "Debian"}, "setup": {"steps": [{"command": ["true"]}]}});
    world.create::<GoldenSnapshot>("next", setup).await;
    world.says::<GoldenSnapshot>("next", "Ready", "True/Captured").await;
    let before = nonces(&world).await;
    world
        .patch::<AgentVMPool>("default", json!({"spec": {"goldenSnapshotRef": {"name": "next"}}}))
        .await;
    fresh(&before, "the outdated one is replaced").await;
    // The golden was captured again for this pool, whose machines have no network device.
    let isolated = |golden: &GoldenSnapshot| {
        let nodes =
            golden.status.as_ref().map(|status| status.nodes.as_slice()).unwrap_or_default();
        nodes.iter().find(|node| node.layout == "Isolated").and_then(|node| node.key.clone())
    };
    let next =
        world.until("next", "captured for the pool", |golden| isolated(golden).is_some()).await;
    assert_eq!(
        world.fake.list().await.unwrap()[0].record.golden.as_str(),
        isolated(&next).unwrap()
    );
}

#[tokio::test]
async fn a_network_that_is_not_there_starts_no_machine() {
    let mut world = World::at_rest().await;
    world.config.defaults.network.allowed_bridges = vec!["no-such-br".to_owned()];
    world.start().await;
    world
        .pool_with("default", json!({"network": {"mode": "Bridge", "bridge": "no-such-br"}}))
        .await;
    let pool = world.says::<AgentVMPool>("default", "Ready", "False/NetworkUnavailable").await;
    assert!(said(&pool).contains("spec.network.bridge"), "{}", said(&pool));
    assert_eq!(reason(&pool, "Stalled"), "True/NetworkUnavailable");
    world.says::<GoldenSnapshot>("default", "Ready", "True/Captured").await;
    assert_eq!(world.fake.faults().calls(Op::Create), 0);
    world.script("run", "true", json!({})).await;
    let run = world.says::<AgentRun>("run", "Scheduled", "False/PoolDegraded").await;
    assert!(condition(&run, "Scheduled").unwrap().message.contains("NetworkUnavailable"));
}

#[tokio::test]
async fn the_node_s_budget_holds_over_all_pools() {
    let mut world = World::at_rest().await;
    world.config.budget.machines = 3;
    world.start().await;
    world.warm_pool("first", 2, 2).await;
    world.pool("second", 2, 2).await;
    let pool = world.says::<AgentVMPool>("second", "Degraded", "True/NoCapacity").await;
    assert!(
        condition(&pool, "Degraded").unwrap().message.contains("no room for 1 more"),
        "{pool:?}"
    );
    world.until("second", "one fits", |pool: &AgentVMPool| counts(pool).0 == 1).await;
    assert_eq!(world.fake.list().await.unwrap().len(), 3);
    world.delete::<AgentVMPool>("first").await;
    world.until("second", "there is room now", warm(2)).await;
}

#[tokio::test]
async fn machines_that_cannot_be_made_are_tried_again_later() {
    let world = World::new().await;
    for nth in 1..=2 {
        let refused =
            HvError::Refused { what: "start it".into(), detail: "no such emulator".into() };
        world.fake.faults().nth(Op::Create, nth, Fault::Fail(refused));
    }
    world.pool("default", 1, 1).await;
    let failed = |pool: &AgentVMPool| reason(pool, "Degraded") == "True/CreateFailed";
    let pool = world.until("default", "says what fails", failed).await;
    assert!(said(&pool).contains("no such emulator"), "{}", said(&pool));
    let begun = Instant::now();
    world.until("default", "recovers", warm(1)).await;
    assert_eq!(world.fake.faults().calls(Op::Create), 3);
    assert!(begun.elapsed() > Duration::from_secs(2), "not at once: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_deleted_pool_ends_its_idle_machines_and_lets_claimed_ones_finish() {
    let world = World::new().await;
    world.warm_pool("default", 2, 2).await;
    world.script("run", &format!("{}; echo finished", until_there(&world)), json!({})).await;
    world.running("run").await;
    world.delete::<AgentVMPool>("default").await;
    let one = || async { world.fake.list().await.unwrap().len() == 1 };
    wait_until_async("the idle one is gone", one).await;
    open_gate(&world);
    assert_eq!(world.finished("run").await.status.unwrap().stdout.unwrap(), "finished\n");
    let none = || async { world.fake.list().await.unwrap().is_empty() };
    wait_until_async("the other one is gone", none).await;
}

#[tokio::test]
async fn runs_go_when_their_time_is_over_and_take_what_they_left_with_them() {
    let world = World::new().await;
    world.warm_pool("default", 1, 2).await;
    world
        .script(
            "short-lived",
            "echo x > /workspace/output/x",
            json!({"ttlSecondsAfterFinished": 1}),
        )
        .await;
    let uid = world.finished("short-lived").await.metadata.uid.unwrap();
    let folder = world.folder.join("runs").join(uid);
    assert!(folder.join("1/output/x").exists());
    world.gone::<AgentRun>("short-lived").await;
    wait_until_async("its folder is gone", || async { !folder.exists() }).await;
    world.script("deleted", "sleep 600", json!({})).await;
    let machine = world.running("deleted").await.status.unwrap().vm_name.unwrap();
    let nonce = world
        .fake
        .list()
        .await
        .unwrap()
        .into_iter()
        .find(|m| m.record.name.as_str() == machine)
        .unwrap();
    world.delete::<AgentRun>("deleted").await;
    let ended = || async { !nonces(&world).await.contains(&nonce.record.nonce) };
    wait_until_async("a deleted run's machine is gone", ended).await;
    world.until("default", "and replaced", warm(1)).await;
}

#[tokio::test]
async fn its_status_is_written_at_most_once_a_second() {
    let world = World::new().await;
    world.warm_pool("default", 2, 4).await;
    let writes = || {
        world
            .wire
            .writes()
            .iter()
            .filter(|sent| sent.path.contains("/agentvmpools/default"))
            .count()
    };
    let (before, begun) = (writes(), Instant::now());
    for n in 0..16 {
        world.script(&format!("run-{n}"), "true", json!({})).await;
    }
    for n in 0..16 {
        world.finished(&format!("run-{n}")).await;
    }
    let (count, seconds) = (writes() - before, begun.elapsed().as_secs_f64());
    println!("16 runs in {seconds:.1} s: {count} statuses of the pool");
    assert!(f64::from(u32::try_from(count).unwrap()) <= seconds + 1.0, "{count} in {seconds:.1} s");
}
