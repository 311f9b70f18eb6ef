//! A node is its id, not its name. A node that is gone blocks nobody, and no attempt runs twice at
//! once.

use std::path::Path;
use std::time::Duration;

use agentvm_core::names::DomainName;
use agentvm_crds::{AgentRun, AgentVMPool, Attempt};
use agentvm_hypervisor::MachineApi;
use agentvm_testing::{PATIENCE, wait_until_async};
use agentvm_tests::{Outside, World, reason};
use serde_json::json;
use tokio::time::timeout;

/// Short, so that a test sees its end; long enough for a busy host to renew it.
const LEASE: u64 = 6;

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fake-operator"))
}

fn attempts(run: &AgentRun) -> &[Attempt] {
    &run.status.as_ref().unwrap().attempts
}

/// The names of the nodes in a pool's status, and the sum of warm machines.
fn nodes(pool: &AgentVMPool) -> (Vec<&str>, i32) {
    let status = pool.status.as_ref().unwrap();
    (status.nodes.iter().map(|node| node.name.as_str()).collect(), status.warm)
}

/// Starts a script on the world's machines, and returns when it executes.
async fn executing(world: &World, name: &str, more: serde_json::Value) -> String {
    world.script(name, "touch begun; sleep 600", more).await;
    let machine = world.running(name).await.status.unwrap().vm_name.unwrap();
    let begun = world.share(&machine).join("work/begun");
    wait_until_async("it executes", || async { begun.exists() }).await;
    machine
}

#[tokio::test]
async fn a_renamed_host_goes_on_with_its_runs_and_its_old_name_goes() {
    let world = World::at_rest().await;
    let before = Outside::start_as(binary(), &world, "old-name", 60).unwrap();
    world.warm_pool("default", 1, 1).await;
    world.script("run", "echo begun > begun; sleep 2; cat begun; exit 3", json!({})).await;
    let claimed = world.running("run").await;
    before.kill().unwrap();
    let _after = Outside::start_as(binary(), &world, "new-name", 60).unwrap();
    let run = world.finished("run").await;
    let status = run.status.as_ref().unwrap();
    assert_eq!((status.exit_code, status.stdout.as_deref()), (Some(3), Some("begun\n")));
    assert_eq!(attempts(&run).len(), 1);
    assert_eq!(attempts(&run)[0].node_id, attempts(&claimed)[0].node_id);
    assert_eq!(attempts(&run)[0].node_name, "old-name", "the label of the claim");
    world
        .until("default", "the old name is gone", |pool: &AgentVMPool| {
            nodes(pool) == (vec!["new-name"], 1)
        })
        .await;
}

#[tokio::test]
async fn a_second_host_of_the_same_name_does_not_start_and_says_who_has_it() {
    let mut first = World::at_rest().await;
    first.config.node.lease.duration = Duration::from_secs(LEASE);
    first.start().await;
    let mut second = first.beside("node-a");
    let said = second.refused().await;
    let (holder, host) = (first.config.node.id.to_string(), first.config.node.host.clone());
    for word in ["node name node-a", &holder, &host, "since", "node.name", "end the other"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    second.config.node.name = agentvm_types::NodeName::new("node-b");
    second.start().await;
}

/// The state folder was copied with the host: the id is the same, and so is the name.
#[tokio::test]
async fn a_copy_of_a_host_does_not_start_while_the_first_one_lives() {
    let mut first = World::at_rest().await;
    first.config.node.lease.duration = Duration::from_secs(LEASE);
    first.start().await;
    let mut copy = first.beside("node-a");
    copy.config.node.id = first.config.node.id.clone();
    copy.config.node.boot = "another host".to_owned();
    let said = copy.refused().await;
    assert!(said.contains(first.config.node.id.as_str()), "{said}");
}

#[tokio::test]
async fn a_node_that_is_gone_loses_its_attempts_and_blocks_nobody() {
    let gone = World::at_rest().await;
    let operator = Outside::start_as(binary(), &gone, "gone", 2).unwrap();
    gone.warm_pool("default", 4, 4).await;
    let mut machines = vec![executing(&gone, "lost", json!({})).await];
    for name in ["cancelled", "deleted"] {
        machines.push(executing(&gone, name, json!({})).await);
    }
    let again = gone.outside("again");
    let script = format!("[ -e {0} ] && exit 0; touch {0}; sleep 600", again.display());
    gone.script("again", &script, json!({"backoffLimit": 1})).await;
    wait_until_async("it executes", || async { again.exists() }).await;
    machines.push(gone.running("again").await.status.unwrap().vm_name.unwrap());
    operator.kill().unwrap();
    for machine in machines {
        gone.fake.kill_machine(&DomainName::from_recorded(machine)).unwrap();
    }

    let mut other = gone.beside("other");
    other.config.node.lease.duration = Duration::from_secs(LEASE);
    other.start().await;
    let cancel = json!({"spec": {"desiredState": "Cancelled"}});
    gone.patch::<AgentRun>("cancelled", cancel).await;
    gone.delete::<AgentRun>("deleted").await;
    gone.gone::<AgentRun>("deleted").await;
    assert_eq!(reason(&gone.finished("lost").await, "Succeeded"), "False/NodeLost");
    assert_eq!(reason(&gone.finished("cancelled").await, "Succeeded"), "False/Cancelled");
    let run = gone.finished("again").await;
    assert_eq!(reason(&run, "Succeeded"), "True/Completed");
    let ends: Vec<_> =
        attempts(&run).iter().map(|a| (a.node_name.as_str(), a.reason.as_deref())).collect();
    assert_eq!(ends, [("gone", Some("NodeLost")), ("other", Some("Completed"))]);
    gone.until("default", "only the other node counts", |pool: &AgentVMPool| {
        nodes(pool) == (vec!["other"], 4)
    })
    .await;
}

#[tokio::test]
async fn a_node_that_is_cut_off_ends_its_attempt_before_another_one_runs_it() {
    let mut cut = World::at_rest().await;
    cut.config.node.lease.duration = Duration::from_secs(LEASE);
    cut.start().await;
    cut.warm_pool("default", 1, 1).await;
    let (lock, marks) = (cut.outside("lock"), cut.outside("marks"));
    // The first one holds the lock for as long as any process of it lives.
    let script = format!(
        "exec 9>{0}; flock -n 9 || echo twice >> {1}; echo begun >> {1}; \
            [ $(grep -c begun {1}) -ge 2 ] && exit 0; sleep 600",
        lock.display(),
        marks.display()
    );
    cut.script("run", &script, json!({"backoffLimit": 1})).await;
    wait_until_async("it executes", || async { marks.exists() }).await;
    let mut other = cut.beside("other");
    other.config.node.lease.duration = Duration::from_secs(LEASE);
    other.start().await;

    cut.wire.border.cut(true);
    let run = cut.finished("run").await;
    assert_eq!(reason(&run, "Succeeded"), "True/Completed");
    let ends: Vec<_> = attempts(&run).iter().map(|a| a.reason.as_deref()).collect();
    assert_eq!(ends, [Some("NodeLost"), Some("Completed")]);
    assert_eq!(std::fs::read_to_string(&marks).unwrap(), "begun\nbegun\n");

    cut.wire.border.cut(false);
    let why = timeout(PATIENCE, cut.lease_lost()).await.unwrap();
    assert!(why.contains("gone"), "{why}");
    let none = || async {
        let all = cut.fake.list().await.unwrap();
        all.iter().all(|machine| machine.record.nonce.as_str() != attempts(&run)[0].nonce)
    };
    wait_until_async("its machine is gone", none).await;
}
