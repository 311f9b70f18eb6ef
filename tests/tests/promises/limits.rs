//! A pool's edited limits reach its machines at once, idle or at work. Removed limits do, too.

use std::time::Duration;

use agentvm_core::names::DomainName;
use agentvm_crds::AgentVMPool;
use agentvm_hypervisor::fake::{Fault, Op};
use agentvm_hypervisor::{HvError, MachineApi, MachineKind, MachineLimits, MachineRecord};
use agentvm_testing::wait_until_async;
use agentvm_tests::{World, reason};
use agentvm_types::Nonce;
use serde_json::{Value, json};
use tokio::time::Instant;

async fn machines(world: &World) -> Vec<MachineRecord> {
    let all = world.fake.list().await.unwrap().into_iter().map(|machine| machine.record);
    all.filter(|record| record.kind == MachineKind::Pool).collect()
}

/// One machine at work and one idle one, by name, and the file that lets the run end.
async fn one_of_each(world: &World) -> (DomainName, DomainName, std::path::PathBuf) {
    world.warm_pool("default", 1, 2).await;
    let gate = world.outside("gate");
    world
        .script("run", &format!("until [ -e {} ]; do sleep 0.02; done", gate.display()), json!({}))
        .await;
    let run = world.running("run").await;
    let busy = DomainName::from_recorded(run.status.unwrap().attempts[0].vm_name.clone());
    let ready =
        |pool: &AgentVMPool| pool.status.as_ref().is_some_and(|s| s.warm == 1 && s.claimed == 1);
    world.until("default", "another one is ready", ready).await;
    let idle = machines(world).await.into_iter().find(|record| record.name != busy).unwrap().name;
    (busy, idle, gate)
}

async fn edit(world: &World, limits: Value) {
    world.patch::<AgentVMPool>("default", json!({"spec": {"limits": limits}})).await;
}

fn quota(world: &World, name: &DomainName) -> Option<u32> {
    world.fake.limits(name).and_then(|limits| limits.cpu_quota_percent)
}

#[tokio::test]
async fn edited_limits_reach_idle_machines_and_those_that_run_within_a_second() {
    let world = World::new().await;
    let (busy, idle, gate) = one_of_each(&world).await;
    let before: Vec<Nonce> =
        machines(&world).await.into_iter().map(|record| record.nonce).collect();
    for wanted in [Some(50), Some(150), None] {
        let changed = Instant::now();
        edit(&world, json!({"cpuQuotaPercent": wanted})).await;
        let held = || async { [&busy, &idle].iter().all(|name| quota(&world, name) == wanted) };
        wait_until_async("both are held to it", held).await;
        assert!(changed.elapsed() < Duration::from_secs(1), "{:?}", changed.elapsed());
        let told = |pool: &AgentVMPool| {
            let limits = pool.status.as_ref().and_then(|status| status.nodes.first()?.limits);
            limits.is_some_and(|limits| {
                limits.cpu_quota_percent.map(i64::from) == wanted.map(i64::from)
            })
        };
        world.until("default", "its status says so", told).await;
    }
    let after: Vec<Nonce> = machines(&world).await.into_iter().map(|record| record.nonce).collect();
    assert_eq!(before, after, "none was replaced or brought back for it");
    std::fs::write(gate, "").unwrap();
    assert_eq!(reason(&world.finished("run").await, "Succeeded"), "True/Completed");
}

#[tokio::test]
async fn machines_whose_share_has_another_rate_are_replaced_when_nobody_has_them() {
    let world = World::new().await;
    let (busy, idle, gate) = one_of_each(&world).await;
    let nonce = |name: DomainName| {
        let world = &world;
        async move {
            machines(world)
                .await
                .into_iter()
                .find(|record| record.name == name)
                .map(|record| record.nonce)
        }
    };
    let before = nonce(idle.clone()).await;
    let disk =
        |name: &DomainName| world.fake.limits(name).and_then(|limits| limits.disk_bytes_per_second);
    let (resets, destroyed) =
        (world.fake.faults().calls(Op::Reset), world.fake.faults().calls(Op::Destroy));
    edit(&world, json!({"diskBytesPerSecond": 1 << 20})).await;
    let replaced = || async {
        let now = nonce(idle.clone()).await;
        now.is_some() && now != before && disk(&idle) == Some(1 << 20)
    };
    wait_until_async("the idle one is another", replaced).await;
    assert_eq!(disk(&busy), Some(1 << 20), "the disk of the one at work is held to it at once");
    assert_eq!(world.fake.faults().calls(Op::Destroy), destroyed + 1);
    std::fs::write(gate, "").unwrap();
    world.finished("run").await;
    let gone = || async { world.fake.faults().calls(Op::Destroy) == destroyed + 2 };
    wait_until_async("the other goes after its run", gone).await;
    assert_eq!(
        world.fake.faults().calls(Op::Reset),
        resets + 1,
        "a reset was asked for, and refused"
    );
}

#[tokio::test]
async fn what_could_not_be_changed_is_tried_again_and_a_restart_changes_nothing() {
    let mut world = World::new().await;
    world.warm_pool("default", 1, 1).await;
    let name = machines(&world).await[0].name.clone();
    let fails =
        || Fault::Fail(HvError::Refused { what: "change it".into(), detail: "no cgroup".into() });
    world.fake.faults().next(Op::UpdateLimits, fails());
    edit(&world, json!({"cpuQuotaPercent": 50})).await;
    wait_until_async("it is tried again", || async { quota(&world, &name) == Some(50) }).await;
    world.stop(Duration::from_secs(5), false).await;
    let nonce = machines(&world).await[0].nonce.clone();
    let calls = world.fake.faults().calls(Op::UpdateLimits);
    world.start().await;
    // The new operator does not know the machine's limits, so it sets them once.
    wait_until_async("it is told", || async {
        world.fake.faults().calls(Op::UpdateLimits) == calls + 1
    })
    .await;
    world.says::<AgentVMPool>("default", "Ready", "True/Filled").await;
    assert_eq!(machines(&world).await[0].nonce, nonce);
    let wanted =
        MachineLimits { cpu_quota_percent: Some(50), processes: 4096, ..MachineLimits::default() };
    assert_eq!(world.fake.limits(&name), Some(wanted));
}
