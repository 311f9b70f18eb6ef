//! A machine that served a run serves another one only when its golden state is proven. Any other
//! machine is never lent.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use agentvm_crds::{AgentRun, AgentVMPool, ResetStatus};
use agentvm_hypervisor::fake::{Fault, Op};
use agentvm_hypervisor::{HvError, Machine, MachineApi, Mark, Proof, Tier};
use agentvm_testing::wait_until_async;
use agentvm_tests::{Outside, World, reason};
use agentvm_types::Nonce;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

/// A ready pool of one machine, or of as many as `spec` asks for.
async fn warm(world: &World, more: Value) {
    let mut spec = json!({"warm": {"min": 1, "max": 1}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let wanted = spec["warm"]["min"].as_u64().unwrap();
    world.pool_with("default", spec).await;
    idle(world, usize::try_from(wanted).unwrap()).await;
}

/// Waits until this many machines are parked and proven, beside those in quarantine.
async fn idle(world: &World, wanted: usize) {
    let so = || async {
        let all = world.fake.list().await.unwrap();
        let parked =
            all.iter().filter(|machine| matches!(machine.mark, Mark::Parked { .. })).count();
        parked == wanted && all.iter().all(|machine| machine.mark != Mark::None)
    };
    wait_until_async("machines are parked", so).await;
}

/// Runs a script, and waits until it is over. It must complete.
async fn run(world: &World, name: &str, script: &str) -> AgentRun {
    world.script(name, script, json!({})).await;
    let run = world.finished(name).await;
    assert_eq!(reason(&run, "Succeeded"), "True/Completed", "{name}");
    run
}

fn reset(run: &AgentRun) -> &ResetStatus {
    run.status.as_ref().unwrap().reset.as_ref().unwrap()
}

fn assert_proven(run: &AgentRun) {
    let checks = &reset(run).checks;
    assert!(
        !checks.is_empty() && checks.iter().all(|check| check.result == "Passed"),
        "{checks:?}"
    );
}

fn machine(run: &AgentRun) -> (String, Nonce) {
    let attempt = run.status.as_ref().unwrap().attempts.last().unwrap();
    (attempt.vm_name.clone(), attempt.nonce.parse().unwrap())
}

async fn quarantined(world: &World) -> Vec<Machine> {
    let all = world.fake.list().await.unwrap();
    all.into_iter().filter(|machine| matches!(machine.mark, Mark::Quarantined { .. })).collect()
}

#[tokio::test]
async fn two_runs_on_one_machine_are_two_incarnations_of_it() {
    let world = World::new().await;
    warm(&world, json!({})).await;
    let first =
        run(&world, "first", "echo a > /workspace/work/left; echo b > /workspace/output/left")
            .await;
    let second = run(&world, "second", "ls /workspace/work /workspace/output").await;
    let ((machine_a, nonce_a), (machine_b, nonce_b)) = (machine(&first), machine(&second));
    assert_eq!(machine_a, machine_b);
    assert_ne!(nonce_a, nonce_b);
    assert!(!second.status.as_ref().unwrap().stdout.as_ref().unwrap().contains("left"));
    assert_proven(&first);
    assert_proven(&second);
    assert_eq!((reset(&first).tier.as_str(), reset(&second).tier.as_str()), ("Fresh", "InPlace"));
    let checks: Vec<&str> = reset(&second).checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(checks, [Proof::CHECKS.as_slice(), &["guest"]].concat());
    idle(&world, 1).await;
    let faults = world.fake.faults();
    assert_eq!((faults.calls(Op::Create), faults.calls(Op::Reset)), (1, 2));
    // The session was kept open, so a claim opens none. (Preparing may take several on a slow
    // host.)
    let before = faults.calls(Op::Connect);
    let begun = world.outside("begun");
    gated(&world, "third", &format!("touch {}", begun.display())).await;
    wait_until_async("it executes", || async { begun.exists() }).await;
    assert_eq!(faults.calls(Op::Connect), before);
    open_gate(&world);
    assert_eq!(machine(&world.finished("third").await).0, machine_b);
}

/// A run that does something and stays until [`open_gate`].
async fn gated(world: &World, name: &str, first: &str) {
    let gate = world.outside("gate");
    let script = format!("{first}; until [ -e {} ]; do sleep 0.02; done", gate.display());
    world.script(name, &script, json!({})).await;
    world.running(name).await;
}

fn open_gate(world: &World) {
    std::fs::write(world.outside("gate"), "").unwrap();
}

/// Edits the pool, and waits until the operator has seen it.
async fn edit(world: &World, spec: Value) {
    let generation =
        world.patch::<AgentVMPool>("default", json!({"spec": spec})).await.metadata.generation;
    let seen = |pool: &AgentVMPool| {
        pool.status.as_ref().is_some_and(|s| s.observed_generation >= generation)
    };
    world.until("default", "seen", seen).await;
}

#[tokio::test]
async fn never_means_a_fresh_process_every_time_and_an_edit_is_followed() {
    let world = World::new().await;
    warm(&world, json!({"reusePolicy": "Never"})).await;
    for name in ["first", "second"] {
        assert_eq!(reset(&run(&world, name, "true").await).tier, "Fresh");
    }
    idle(&world, 1).await;
    assert_eq!(
        (world.fake.faults().calls(Op::Reset), world.fake.faults().calls(Op::Create)),
        (0, 3)
    );
    gated(&world, "gate", "true").await;
    edit(&world, json!({"reusePolicy": "VerifiedReset"})).await;
    open_gate(&world);
    world.finished("gate").await;
    assert_eq!(reset(&run(&world, "after", "true").await).tier, "InPlace");
}

#[tokio::test]
async fn after_max_reuses_comes_a_fresh_process() {
    let world = World::new().await;
    warm(&world, json!({"maxReuses": 2})).await;
    let mut tiers = Vec::new();
    for n in 0..5 {
        tiers.push(reset(&run(&world, &format!("run-{n}"), "true").await).tier.clone());
    }
    assert_eq!(tiers, ["Fresh", "InPlace", "InPlace", "Fresh", "InPlace"]);
}

#[tokio::test]
async fn where_resets_are_not_offered_none_is_tried() {
    let mut world = World::at_rest().await;
    world.fake.knobs().set_tiers(Tier::Fresh, "InPlace: the library is missing");
    world.start().await;
    warm(&world, json!({})).await;
    for name in ["first", "second"] {
        assert_eq!(reset(&run(&world, name, "true").await).tier, "Fresh");
    }
    assert_eq!(world.fake.faults().calls(Op::Reset), 0);
}

#[tokio::test]
async fn what_fails_its_proof_is_kept_for_a_look_and_lent_to_nobody() {
    for check in Proof::CHECKS.into_iter().chain(["guest"]) {
        let world = World::new().await;
        // The pool has room for one machine in quarantine, one at work and one in reserve: none has
        // to yield.
        warm(&world, json!({"warm": {"min": 1, "max": 3}, "quarantineSeconds": 600})).await;
        gated(&world, "first", "true").await;
        // The replacement is there: only the reset meets the sabotage.
        idle_beside(&world, 1).await;
        match check {
            "guest" => world.fake.knobs().lie(1),
            _ => world.fake.knobs().sabotage(check, 1),
        }
        open_gate(&world);
        let (suspect, nonce) = machine(&world.finished("first").await);
        wait_until_async("it is in quarantine", || async { !quarantined(&world).await.is_empty() })
            .await;
        let kept = quarantined(&world).await.remove(0);
        assert_eq!(kept.record.name.as_str(), suspect, "{check}");
        let Mark::Quarantined { why, .. } = &kept.mark else { panic!("{kept:?}") };
        assert!(why.starts_with(check), "{check}: {why}");
        for n in 0..3 {
            let other = run(&world, &format!("after-{n}"), "true").await;
            assert_proven(&other);
            assert!(
                machine(&other).0 != suspect && machine(&other).1 != nonce,
                "{check}: it was lent"
            );
        }
        assert_eq!(quarantined(&world).await.len(), 1, "{check}: it is still there");
    }
}

/// Waits until this many machines are parked beside the one at work.
async fn idle_beside(world: &World, wanted: usize) {
    let so = || async {
        let all = world.fake.list().await.unwrap();
        let parked =
            all.iter().filter(|machine| matches!(machine.mark, Mark::Parked { .. })).count();
        // The machine at work is parked too until it is resumed.
        parked == wanted && all.len() == wanted + 1
    };
    wait_until_async("machines are parked", so).await;
}

#[tokio::test]
async fn quarantine_is_nothing_where_it_has_no_time_and_follows_an_edit() {
    let world = World::new().await;
    warm(&world, json!({"warm": {"min": 1, "max": 1}, "quarantineSeconds": 0})).await;
    world.fake.knobs().sabotage("memory", 1);
    run(&world, "first", "true").await;
    idle(&world, 1).await;
    assert_eq!(quarantined(&world).await, []);
    gated(&world, "kept", "true").await;
    edit(&world, json!({"quarantineSeconds": 600, "warm": {"min": 0, "max": 2}})).await;
    world.fake.knobs().sabotage("memory", 1);
    open_gate(&world);
    let (suspect, _) = machine(&world.finished("kept").await);
    wait_until_async("it is in quarantine", || async { !quarantined(&world).await.is_empty() })
        .await;
    assert_eq!(quarantined(&world).await[0].record.name.as_str(), suspect);
}

#[tokio::test]
async fn quarantine_ends_with_its_time() {
    let world = World::new().await;
    warm(&world, json!({"warm": {"min": 1, "max": 2}, "quarantineSeconds": 5})).await;
    world.fake.knobs().sabotage("memory", 1);
    run(&world, "first", "true").await;
    wait_until_async("it is kept", || async { !quarantined(&world).await.is_empty() }).await;
    assert_eq!(world.fake.faults().calls(Op::Quarantine), 1);
    wait_until_async("its time is over", || async { quarantined(&world).await.is_empty() }).await;
}

#[tokio::test]
async fn a_way_that_fails_again_and_again_is_left_alone() {
    let world = World::new().await;
    warm(&world, json!({"quarantineSeconds": 0})).await;
    world.fake.knobs().sabotage("disk", 3);
    for n in 0..5 {
        assert_eq!(reset(&run(&world, &format!("run-{n}"), "true").await).tier, "Fresh");
        idle(&world, 1).await;
    }
    assert_eq!(world.fake.faults().calls(Op::Reset), 3, "then it isn't tried any more");
}

#[tokio::test]
async fn a_reset_that_goes_wrong_costs_a_fresh_process_and_no_run() {
    let world = World::new().await;
    warm(&world, json!({})).await;
    let refused = || HvError::Refused { what: "reset it".into(), detail: "injected".into() };
    world.fake.faults().next(Op::Reset, Fault::Fail(refused()));
    let tiers = [run(&world, "first", "true").await, run(&world, "second", "true").await];
    assert_eq!(tiers.each_ref().map(|run| reset(run).tier.clone()), ["Fresh", "Fresh"]);
    assert_eq!(quarantined(&world).await, [], "nothing was seen that needs a look");
    // The fault is for the third reset, so the second one must be over.
    idle(&world, 1).await;
    world.fake.faults().next(Op::Reset, Fault::DoneButUnknown);
    run(&world, "third", "true").await;
    let last = run(&world, "fourth", "true").await;
    assert_proven(&last);
    assert_eq!(reset(&last).tier, "Fresh", "what isn't known to be proven isn't");
}

#[tokio::test]
async fn a_session_that_breaks_while_the_machine_waits_is_opened_again() {
    let world = World::new().await;
    warm(&world, json!({})).await;
    let machine = world.fake.list().await.unwrap().remove(0).record.name;
    // A new connection replaces the one that was kept open.
    drop(world.fake.connect(&machine).await.unwrap());
    let run = run(&world, "run", "true").await;
    assert_eq!(run.status.unwrap().attempts.len(), 1);
}

#[tokio::test]
async fn a_new_operator_lends_what_was_parked_with_its_proof_and_keeps_what_is_in_quarantine() {
    let world = World::at_rest().await;
    let operator =
        || Outside::start(Path::new(env!("CARGO_BIN_EXE_fake-operator")), &world).unwrap();
    let first = operator();
    warm(&world, json!({"warm": {"min": 2, "max": 3}, "healthCheckSeconds": 1})).await;
    run(&world, "first", "true").await;
    idle(&world, 2).await;
    first.kill().unwrap();
    let mut there = world.fake.list().await.unwrap();
    let (suspect, other) = (there.remove(0).record, there.remove(0));
    let Mark::Parked { evidence } = other.mark else { panic!("{other:?}") };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    world
        .fake
        .quarantine(&suspect.name, i64::try_from(now).unwrap() + 4, "a test says so")
        .await
        .unwrap();
    let _second = operator();
    let after = run(&world, "after", "true").await;
    assert_eq!(
        machine(&after),
        (other.record.name.to_string(), other.record.nonce),
        "the one that was parked"
    );
    assert_proven(&after);
    let kept: Value = serde_json::from_str(&evidence).unwrap();
    assert_eq!(
        kept["reset"],
        serde_json::to_value(reset(&after)).unwrap(),
        "what proved it then proves it now"
    );
    wait_until_async("its time is over", || async { quarantined(&world).await.is_empty() }).await;
    let lent = world.bench.api::<AgentRun>().list(&ListParams::default()).await.unwrap();
    assert!(
        lent.iter().all(|run| machine(run).1 != suspect.nonce || run.name_any() == "first"),
        "{lent:?}"
    );
}

#[tokio::test]
async fn an_idle_machine_that_runs_is_lent_to_nobody() {
    let world = World::new().await;
    warm(&world, json!({"healthCheckSeconds": 1})).await;
    let suspect = world.fake.list().await.unwrap().remove(0).record;
    world.fake.resume(&suspect.name).await.unwrap();
    let gone = || async {
        world.fake.list().await.unwrap().iter().all(|machine| machine.record.nonce != suspect.nonce)
    };
    wait_until_async("it is gone", gone).await;
    idle(&world, 1).await;
    assert_ne!(machine(&run(&world, "after", "true").await).1, suspect.nonce);
}

#[tokio::test]
async fn machines_that_are_not_worth_a_reset_are_replaced_and_the_way_stays_open() {
    let world = World::new().await;
    warm(&world, json!({})).await;
    let name = world.fake.list().await.unwrap().remove(0).record.name;
    for n in 0..4 {
        let why = "its disk has grown".to_owned();
        world
            .fake
            .faults()
            .next(Op::Reset, Fault::Fail(HvError::NotResettable { name: name.clone(), why }));
        assert_eq!(reset(&run(&world, &format!("run-{n}"), "true").await).tier, "Fresh");
        idle(&world, 1).await;
    }
    run(&world, "before", "true").await;
    assert_eq!(reset(&run(&world, "after", "true").await).tier, "InPlace");
    assert_eq!(quarantined(&world).await, []);
}
