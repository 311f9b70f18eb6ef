//! An operator is killed before any step of a capture, a creation or a reset. The next operator
//! lends nothing unproven, and in the end nothing is left over.

use std::path::Path;
use std::sync::Mutex;

use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot};
use agentvm_hypervisor::{CaptureStep, CreateStep, Machine, MachineApi, Mark, ResetStep, Step};
use agentvm_testing::wait_until_async;
use agentvm_tests::{Outside, World, reason};
use agentvm_types::Nonce;
use serde_json::json;

const OPERATOR: &str = env!("CARGO_BIN_EXE_fake-operator");

fn dies_at(world: &World, step: Step) -> Outside {
    Outside::start_and_die_at(Path::new(OPERATOR), world, step).unwrap()
}

async fn ended(operator: Outside, step: Step) {
    let operator = Mutex::new(operator);
    wait_until_async(&format!("it ended before {step:?}"), || async {
        operator.lock().unwrap().has_ended().unwrap()
    })
    .await;
}

/// A run that counts its executions.
async fn script(world: &World, name: &str) {
    let marks = world.outside(&format!("marks-{name}"));
    world
        .script(
            name,
            &format!("echo mark >> {}; ls /workspace/work; touch left", marks.display()),
            json!({}),
        )
        .await;
}

async fn assert_whole(world: &World, name: &str) -> Nonce {
    let run: AgentRun = world.finished(name).await;
    assert_eq!(reason(&run, "Succeeded"), "True/Completed", "{name}");
    let marks = std::fs::read_to_string(world.outside(&format!("marks-{name}"))).unwrap();
    let status = run.status.unwrap();
    assert_eq!((marks.as_str(), status.attempts.len()), ("mark\n", 1), "{name} was executed once");
    assert_eq!(status.stdout.as_deref(), Some(""), "{name} found nothing of another run");
    let reset = status.reset.unwrap();
    assert!(
        !reset.checks.is_empty() && reset.checks.iter().all(|check| check.result == "Passed"),
        "{name}: {reset:?}"
    );
    status.attempts[0].nonce.parse().unwrap()
}

/// Starts another operator: two runs get proven machines, then everything is deleted.
async fn goes_on(world: &World, step: Step, before: &[&str]) {
    let was = world.fake.list().await.unwrap();
    let next = Outside::start(Path::new(OPERATOR), world).unwrap();
    let mut nonces = Vec::new();
    for name in ["one", "two"] {
        script(world, name).await;
        nonces.push(assert_whole(world, name).await);
    }
    // A machine in the middle of a step was not parked, and no run got it.
    let lent = |machine: &&Machine| nonces.contains(&machine.record.nonce);
    assert!(
        was.iter().filter(lent).all(|m| matches!(m.mark, Mark::Parked { .. })),
        "{step:?}: {was:?}"
    );
    for name in before {
        nonces.push(assert_whole(world, name).await);
    }
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 2 + before.len(), "{step:?}: every run had an incarnation of its own");
    world.delete::<AgentVMPool>("default").await;
    world.delete::<GoldenSnapshot>("default").await;
    let folder = world.folder.join("host");
    let count = |name: &str| std::fs::read_dir(folder.join(name)).map_or(0, Iterator::count);
    wait_until_async(&format!("{step:?}: nothing is left"), || async {
        count("machines") + count("goldens") == 0
    })
    .await;
    drop(next);
}

/// A pool's first machine takes all of these steps.
async fn on_the_way_to_a_machine(steps: impl IntoIterator<Item = Step>) {
    for step in steps {
        let world = World::at_rest().await;
        let operator = dies_at(&world, step);
        world.pool("default", 1, 1).await;
        ended(operator, step).await;
        goes_on(&world, step, &[]).await;
    }
}

#[tokio::test]
async fn of_a_capture() {
    on_the_way_to_a_machine(CaptureStep::ALL.map(Step::Capture)).await;
}

#[tokio::test]
async fn of_a_creation() {
    on_the_way_to_a_machine(CreateStep::ALL.map(Step::Create)).await;
}

#[tokio::test]
async fn of_a_reset() {
    for step in ResetStep::ALL.map(Step::Reset) {
        let world = World::at_rest().await;
        let operator = dies_at(&world, step);
        world.warm_pool("default", 1, 1).await;
        script(&world, "before").await;
        ended(operator, step).await;
        goes_on(&world, step, &["before"]).await;
    }
}
