//! A node whose disk is short begins nothing new, and says so. When hardly any space is left, one
//! run ends, and the others go on.

use agentvm_core::names::DomainName;
use agentvm_core::pool::DiskLimits;
use agentvm_crds::{AgentRun, AgentVMPool};
use agentvm_hypervisor::MachineApi;
use agentvm_tests::{World, condition, reason};
use serde_json::json;

const MIB: u64 = 1 << 20;

fn message(run: &AgentRun, type_: &str) -> String {
    condition(run, type_).map(|c| c.message.clone()).unwrap_or_default()
}

async fn machines(world: &World) -> Vec<DomainName> {
    world.fake.list().await.unwrap().into_iter().map(|machine| machine.record.name).collect()
}

/// Waits for the end of the gate, in the machine.
fn waits(world: &World, gate: &str) -> String {
    format!("until [ -e {} ]; do sleep 0.02; done", world.outside(gate).display())
}

/// Makes runs until one is refused, and returns its name. The node looks at its disk now and then,
/// so some runs still get through before.
async fn refused(world: &World, why: &str) -> String {
    for n in 0..50 {
        let name = format!("probe-{n}");
        world.script(&name, "true", json!({})).await;
        let run = world
            .until::<AgentRun>(&name, "is over or refused", |run| {
                agentvm_core::run::is_finished(run.status.as_ref())
                    || message(run, "Scheduled").contains(why)
            })
            .await;
        if !agentvm_core::run::is_finished(run.status.as_ref()) {
            assert_eq!(reason(&run, "Scheduled"), "False/NodeUnavailable");
            return name;
        }
    }
    panic!("no run was refused");
}

#[tokio::test]
async fn below_the_low_mark_no_machine_is_made_and_no_run_begins_until_there_is_space() {
    let world = World::new().await;
    world.warm_pool("default", 1, 1).await;
    world.fake.knobs().set_disk(9 * MIB, vec![]);
    let waits = refused(&world, "9 MiB are free at /disk").await;
    world.pool("cold", 1, 1).await;
    world
        .until::<AgentVMPool>("cold", "says that the disk is short", |pool| {
            condition(pool, "Ready").is_some_and(|c| {
                c.reason == "NoCapacity" && c.message.contains("9 MiB are free at /disk")
            })
        })
        .await;
    assert_eq!(machines(&world).await.len(), 1, "the idle machine stays");
    world.fake.knobs().set_disk(5000 * MIB, vec![]);
    assert_eq!(reason(&world.finished(&waits).await, "Succeeded"), "True/Completed");
    world
        .until::<AgentVMPool>("cold", "has its machine", |pool| {
            pool.status.as_ref().is_some_and(|status| status.warm == 1)
        })
        .await;
}

#[tokio::test]
async fn below_the_critical_mark_the_greediest_machine_goes_and_the_others_go_on() {
    let world = World::new().await;
    world.warm_pool("default", 2, 2).await;
    for name in ["greedy", "modest"] {
        world.script(name, &waits(&world, "gate"), json!({})).await;
    }
    let mut used = Vec::new();
    for (name, bytes) in [("greedy", 900 * MIB), ("modest", 100 * MIB)] {
        let vm = world.running(name).await.status.unwrap().vm_name.unwrap();
        used.push((DomainName::from_recorded(&vm), bytes));
    }
    world.fake.knobs().set_disk(MIB, used);
    let greedy = world.finished("greedy").await;
    assert_eq!(reason(&greedy, "Succeeded"), "False/Evicted");
    let said = message(&greedy, "Succeeded");
    assert!(said.contains("disk of the node was nearly full"), "{said}");
    world.fake.knobs().set_disk(5000 * MIB, vec![]);
    std::fs::write(world.outside("gate"), "").unwrap();
    assert_eq!(reason(&world.finished("modest").await, "Succeeded"), "True/Completed");
}

#[tokio::test]
async fn a_namespace_that_keeps_too_much_output_waits_until_a_run_is_deleted() {
    let mut world = World::at_rest().await;
    world.config.disk = DiskLimits { namespace_mib: Some(1), ..world.config.disk };
    world.start().await;
    world.warm_pool("default", 1, 1).await;
    let script = "head -c 2000000 /dev/urandom > /workspace/output/file";
    world.script("large", script, json!({})).await;
    assert_eq!(reason(&world.finished("large").await, "Succeeded"), "True/Completed");
    let waits = refused(&world, "keep 1 MiB of output").await;
    let run = world.bench.api::<AgentRun>().get(&waits).await.unwrap();
    assert!(message(&run, "Scheduled").contains("delete runs"), "it says what to do");
    world.delete::<AgentRun>("large").await;
    assert_eq!(reason(&world.finished(&waits).await, "Succeeded"), "True/Completed");
}
