//! The border between the host and its agents: at each kind of message, an agent refuses, lies,
//! floods or falls silent. The run ends right, or with an honest reason, once; the next run on that
//! pool is fine; nothing is left.

use std::time::Duration;

use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot};
use agentvm_testing::wait_until_async;
use agentvm_tests::{Frames, How, Place, World, condition, reason};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

/// The worlds at the same time, over all tests of this file.
static TURNS: Semaphore = Semaphore::const_new(8);

/// The host's own deadline is a minute and `timeoutSeconds` after the claim, and a busy host takes
/// its time for the rest.
const LONGEST: Duration = Duration::from_mins(3);

const COMPLETED: &str = "True/Completed";
const REFUSED: &str = "False/Refused";
const LOST: &str = "False/GuestLost";
const LATE: &str = "False/DeadlineExceeded";
const CANCELLED: &str = "False/Cancelled";

/// The honest ends of the run at this place.
fn honest(place: Place, how: How) -> &'static [&'static str] {
    match (place, how) {
        (Place::File | Place::Execute, How::Refuses) => &[REFUSED],
        // The run had its machine before, or gets another one.
        (Place::Inspect | Place::Rehydrate | Place::Warm | Place::File, _) => &[COMPLETED],
        // Nobody knows whether the program was started.
        (Place::Execute, _) => &[LATE, COMPLETED],
        (Place::Stop, _) => &[CANCELLED],
        (_, How::Refuses) | (Place::Hello, How::Lies) => &[LOST],
        (Place::Hello | Place::Resume | Place::Ack | Place::Output | Place::Result, _) => {
            &[LOST, LATE]
        }
    }
}

async fn run(world: &World, name: &str, script: &str) {
    let marks = world.outside(&format!("marks-{name}"));
    let key = json!({"name": "of-the-walk", "key": "key"});
    let more = json!({
        "timeoutSeconds": 2,
        "files": [{"path": "key", "place": "Secrets", "contentFrom": {"secretKeyRef": key}}],
    });
    world.script(name, &format!("echo mark >> {}; {script}", marks.display()), more).await;
}

async fn finished(world: &World, name: &str, about: &str) -> AgentRun {
    let is_over = |run: Option<&AgentRun>| {
        run.is_some_and(|run| agentvm_core::run::is_finished(run.status.as_ref()))
    };
    let over = await_condition(world.bench.api::<AgentRun>(), name, is_over);
    let Ok(seen) = timeout(LONGEST, over).await else { panic!("{about}: {name} never ends") };
    seen.unwrap().unwrap()
}

fn marks(world: &World, name: &str) -> usize {
    let marks = std::fs::read_to_string(world.outside(&format!("marks-{name}")));
    marks.map_or(0, |text| text.lines().count())
}

/// One place of the walk, in a world of its own.
async fn walk(place: Place, how: How) {
    let _turn = TURNS.acquire().await.unwrap();
    let about = format!("{place:?}, {how:?}");
    let mut world = World::at_rest().await;
    let frames = Frames::default();
    world.fake.knobs().set_tap(frames.tap());
    world.start().await;
    let secret = json!({"metadata": {"name": "of-the-walk"}, "data": {"key": "c2VjcmV0"}});
    let secret = serde_json::from_value(secret).unwrap();
    world.bench.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    world.warm_pool("default", 1, 1).await;

    frames.plan(place, how);
    let script =
        if place == Place::Stop { "echo out; exec sleep 600" } else { "echo out; sleep 0.2" };
    run(&world, "one", script).await;
    if place == Place::Stop {
        wait_until_async(&format!("{about}: it runs"), || async { marks(&world, "one") > 0 }).await;
        world.patch::<AgentRun>("one", json!({"spec": {"desiredState": "Cancelled"}})).await;
    }
    let one = finished(&world, "one", &about).await;
    let end = reason(&one, "Succeeded");
    let said = condition(&one, "Succeeded").map(|c| c.message.clone()).unwrap_or_default();
    assert!(honest(place, how).contains(&end.as_str()), "{about}: {end}: {said}");
    assert!(said.len() <= 1024 && !said.chars().any(char::is_control), "{about}: {said:?}");
    let executed = marks(&world, "one");
    assert!(executed <= 1 && (executed == 1 || end != COMPLETED), "{about}: {executed} times");
    let status = one.status.unwrap();
    if end == COMPLETED || end == CANCELLED {
        assert_eq!(status.stdout.as_deref(), Some("out\n"), "{about}");
    }

    run(&world, "two", "echo two").await;
    let two = finished(&world, "two", &about).await;
    assert_eq!(reason(&two, "Succeeded"), COMPLETED, "{about}: the next run: {two:?}");
    assert_eq!(marks(&world, "two"), 1, "{about}: the next run");
    assert!(frames.hits() > 0, "{about}: the misbehaviour never came");

    world.delete::<AgentVMPool>("default").await;
    world.delete::<GoldenSnapshot>("default").await;
    let folder = world.folder.join("host");
    let count = |name: &str| std::fs::read_dir(folder.join(name)).map_or(0, Iterator::count);
    wait_until_async(&format!("{about}: nothing is left"), || async {
        count("machines") + count("goldens") == 0
    })
    .await;
}

async fn walk_all(places: &[Place]) {
    let all = async {
        let mut walks = JoinSet::new();
        for place in places {
            for how in How::ALL {
                walks.spawn_local(walk(*place, how));
            }
        }
        while let Some(walked) = walks.join_next().await {
            walked.unwrap();
        }
    };
    LocalSet::new().run_until(all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_preparation() {
    walk_all(&[Place::Inspect, Place::Rehydrate, Place::Warm]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_program_starts() {
    walk_all(&[Place::File, Place::Execute]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_later_session() {
    walk_all(&[Place::Hello, Place::Resume]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_program_runs() {
    walk_all(&[Place::Stop, Place::Ack, Place::Output, Place::Result]).await;
}
