//! A run whose output could not be kept or fetched never ends in `Completed`. A failure that passes
//! costs nothing.

use std::path::Path;
use std::time::Duration;

use agentvm_core::names::DomainName;
use agentvm_crds::{AgentRun, AgentRunStatus};
use agentvm_hypervisor::fake::{Fault, Op};
use agentvm_hypervisor::{HvError, MachineApi, Stop};
use agentvm_testing::wait_until_async;
use agentvm_tests::{Outside, World, condition, reason};
use serde_json::json;

const LEAVES_A_FILE: &str = "echo said; printf abc > /workspace/output/file; exit 0";

fn status(run: &AgentRun) -> &AgentRunStatus {
    run.status.as_ref().unwrap()
}

fn message(run: &AgentRun) -> &str {
    &condition(run, "Succeeded").unwrap().message
}

fn files(run: &AgentRun) -> Vec<&str> {
    let output = status(run).output.as_ref();
    output.map(|o| o.files.iter().map(|f| f.path.as_str()).collect()).unwrap_or_default()
}

fn unavailable() -> Fault {
    let detail = "the connection broke".to_owned();
    Fault::Fail(HvError::Unavailable { uri: "qemu:///system".to_owned(), detail })
}

/// An operation of the host that lacks descriptors, space, or a disk that works.
fn failed(number: i32) -> Fault {
    let source = std::io::Error::from_raw_os_error(number);
    Fault::Fail(HvError::Io { what: "copy the output".to_owned(), source })
}

async fn machine_of(world: &World, run: &str) -> DomainName {
    let run = world.bench.api::<AgentRun>().get(run).await.unwrap();
    DomainName::from_recorded(status(&run).vm_name.as_deref().unwrap())
}

async fn world() -> World {
    let world = World::new().await;
    world.warm_pool("default", 1, 3).await;
    world
}

/// The output is there, whatever failed before.
fn assert_whole(run: &AgentRun) {
    assert_eq!(reason(run, "Succeeded"), "True/Completed", "{}", message(run));
    assert_eq!((files(run), status(run).stdout.as_deref()), (vec!["file"], Some("said\n")));
}

/// The output is lost, and the status says so. The program's own end is still there.
fn assert_lost(run: &AgentRun, why: &str) {
    assert_eq!(reason(run, "Succeeded"), "False/OutputLost", "{}", message(run));
    assert!(message(run).contains(why), "{}", message(run));
    assert_eq!(status(run).exit_code, Some(0));
    assert_eq!(status(run).attempts.last().unwrap().reason.as_deref(), Some("OutputLost"));
}

#[tokio::test]
async fn a_pause_that_fails_for_a_while_loses_no_output() {
    let world = world().await;
    for (n, faults) in [1, 2, 4].into_iter().enumerate() {
        for nth in 1..=faults {
            world.fake.faults().nth(Op::Pause, nth, unavailable());
        }
        let name = format!("run-{n}");
        world.script(&name, LEAVES_A_FILE, json!({})).await;
        assert_whole(&world.finished(&name).await);
    }
}

#[tokio::test]
async fn a_pause_whose_outcome_is_unknown_loses_no_output() {
    let world = world().await;
    world.fake.faults().next(Op::Pause, Fault::DoneButUnknown);
    world.script("unknown", LEAVES_A_FILE, json!({})).await;
    assert_whole(&world.finished("unknown").await);
}

#[tokio::test]
async fn a_host_that_lacks_something_for_a_while_loses_no_output() {
    const EIO: i32 = 5;
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOSPC: i32 = 28;
    let world = world().await;
    for number in [EIO, ENOMEM, ENFILE, EMFILE, ENOSPC] {
        world.fake.faults().next(Op::Collect, failed(number));
        let name = format!("errno-{number}");
        world.script(&name, LEAVES_A_FILE, json!({})).await;
        assert_whole(&world.finished(&name).await);
    }
}

#[tokio::test]
async fn output_that_is_lost_for_good_is_said_and_never_completed() {
    let world = world().await;
    for nth in 1..100 {
        world.fake.faults().nth(Op::Pause, nth, unavailable());
    }
    for nth in 1..100 {
        world.fake.faults().nth(Op::State, nth, unavailable());
    }
    world.script("never-paused", LEAVES_A_FILE, json!({})).await;
    let run = world.finished("never-paused").await;
    world.fake.faults().clear();
    assert_lost(&run, "does not answer");
    for nth in 1..100 {
        world.fake.faults().nth(Op::Collect, nth, failed(28));
    }
    world.script("no-space", LEAVES_A_FILE, json!({})).await;
    let run = world.finished("no-space").await;
    world.fake.faults().clear();
    assert_lost(&run, "No space left");
    world.script("next", LEAVES_A_FILE, json!({})).await;
    assert_whole(&world.finished("next").await);
}

#[tokio::test]
async fn a_program_that_failed_and_lost_its_output_keeps_its_exit_code() {
    let world = world().await;
    for nth in 1..100 {
        world.fake.faults().nth(Op::Collect, nth, failed(5));
    }
    world.script("three", "echo said; exit 3", json!({})).await;
    let run = world.finished("three").await;
    world.fake.faults().clear();
    assert_eq!(reason(&run, "Succeeded"), "False/OutputLost");
    assert_eq!(status(&run).exit_code, Some(3));
    assert_eq!(status(&run).stdout.as_deref(), Some("said\n"), "the streams were kept");
}

#[tokio::test]
async fn a_lost_output_is_tried_again_as_often_as_allowed() {
    let world = world().await;
    // The first attempt gets the faults: it asks until its time is over.
    for nth in 1..100 {
        world.fake.faults().nth(Op::Collect, nth, failed(28));
    }
    world.script("again", LEAVES_A_FILE, json!({"backoffLimit": 1})).await;
    world
        .until::<AgentRun>("again", "has a second attempt", |run| {
            run.status.as_ref().is_some_and(|status| {
                status.attempts.first().is_some_and(|first| first.end_time.is_some())
            })
        })
        .await;
    world.fake.faults().clear();
    let run = world.finished("again").await;
    assert_whole(&run);
    let reasons: Vec<_> = status(&run).attempts.iter().map(|a| a.reason.as_deref()).collect();
    assert_eq!(reasons, [Some("OutputLost"), Some("Completed")]);
}

#[tokio::test]
async fn a_machine_that_is_killed_at_the_end_still_gives_its_output() {
    let world = world().await;
    // The pause takes its time, and the machine's process ends meanwhile.
    world.fake.faults().next(Op::Pause, Fault::Delay(Duration::from_secs(2)));
    let paused = world.fake.faults().calls(Op::Pause);
    world.script("killed", LEAVES_A_FILE, json!({})).await;
    let asked = || async { world.fake.faults().calls(Op::Pause) > paused };
    wait_until_async("the machine is told to pause", asked).await;
    world.fake.kill_machine(&machine_of(&world, "killed").await).unwrap();
    assert_whole(&world.finished("killed").await);
}

#[tokio::test]
async fn a_machine_that_was_removed_at_the_end_is_never_completed_without_output() {
    let world = world().await;
    world.fake.faults().next(Op::Pause, Fault::Delay(Duration::from_secs(2)));
    let paused = world.fake.faults().calls(Op::Pause);
    world.script("removed", LEAVES_A_FILE, json!({})).await;
    let asked = || async { world.fake.faults().calls(Op::Pause) > paused };
    wait_until_async("the machine is told to pause", asked).await;
    let name = machine_of(&world, "removed").await;
    world.fake.destroy(&name, Stop::Force).await.unwrap();
    assert_lost(&world.finished("removed").await, "there is no machine");
}

#[tokio::test]
async fn streams_that_vanished_from_the_node_are_never_completed() {
    let world = world().await;
    world.fake.faults().next(Op::Pause, Fault::Delay(Duration::from_secs(2)));
    let paused = world.fake.faults().calls(Op::Pause);
    // The streams are read before the pause: they must be gone before the program ends.
    let gate = world.outside("gate");
    let script = format!("echo said; while [ ! -e {} ]; do sleep 0.05; done", gate.display());
    world.script("vanished", &script, json!({})).await;
    let run = world.running("vanished").await;
    let folder = world.folder.join("runs").join(run.metadata.uid.as_ref().unwrap()).join("1");
    wait_until_async("its output is kept", || async {
        std::fs::metadata(folder.join("stdout")).is_ok_and(|meta| meta.len() == 5)
    })
    .await;
    std::fs::remove_file(folder.join("stdout")).unwrap();
    std::fs::write(&gate, "").unwrap();
    let run = world.finished("vanished").await;
    assert!(world.fake.faults().calls(Op::Pause) > paused);
    assert_eq!(reason(&run, "Succeeded"), "False/OutputLost", "{}", message(&run));
    assert!(message(&run).contains("0 of 5 bytes of Stdout"), "{}", message(&run));
}

#[tokio::test]
async fn an_operator_that_is_killed_between_end_and_collection_loses_no_output() {
    let world = World::at_rest().await;
    let operator =
        || Outside::start(Path::new(env!("CARGO_BIN_EXE_fake-operator")), &world).unwrap();
    let mut current = operator();
    world.warm_pool("default", 1, 1).await;
    for (n, after) in [0_u64, 20, 60, 150].into_iter().enumerate() {
        let name = format!("run-{n}");
        let mark = world.outside(&name);
        let script =
            LEAVES_A_FILE.replace("exit 0", &format!("echo over > {}; exit 0", mark.display()));
        world.script(&name, &script, json!({})).await;
        wait_until_async("its program is over", || async { mark.exists() }).await;
        tokio::time::sleep(Duration::from_millis(after)).await;
        current.kill().unwrap();
        current = operator();
        assert_whole(&world.finished(&name).await);
    }
    current.kill().unwrap();
}

#[tokio::test]
async fn a_cancelled_run_does_not_wait_for_a_collection_that_hangs() {
    let world = world().await;
    world.fake.faults().next(Op::Collect, Fault::Delay(Duration::from_mins(10)));
    let before = world.fake.faults().calls(Op::Collect);
    world.script("hangs", LEAVES_A_FILE, json!({})).await;
    let asked = || async { world.fake.faults().calls(Op::Collect) > before };
    wait_until_async("its output is collected", asked).await;
    world.patch::<AgentRun>("hangs", json!({"spec": {"desiredState": "Cancelled"}})).await;
    let run = world.finished("hangs").await;
    assert_eq!(reason(&run, "Succeeded"), "False/Cancelled", "{}", message(&run));
    assert!(message(&run).contains("its output is lost"), "{}", message(&run));
    assert_eq!(status(&run).exit_code, Some(0));
}

#[tokio::test]
async fn a_deleted_run_ends_a_collection_that_hangs() {
    let world = world().await;
    world.fake.faults().next(Op::Collect, Fault::Delay(Duration::from_mins(10)));
    let before = world.fake.faults().calls(Op::Collect);
    world.script("deleted", LEAVES_A_FILE, json!({})).await;
    let asked = || async { world.fake.faults().calls(Op::Collect) > before };
    wait_until_async("its output is collected", asked).await;
    let run = world.bench.api::<AgentRun>().get("deleted").await.unwrap();
    let vm = machine_of(&world, "deleted").await;
    world.delete::<AgentRun>("deleted").await;
    let gone = || async {
        let machines = world.fake.list().await.unwrap();
        machines.iter().all(|machine| {
            machine.record.name != vm
                || status(&run).attempts[0].nonce != machine.record.nonce.to_string()
        })
    };
    wait_until_async("the machine is reset or removed", gone).await;
}
