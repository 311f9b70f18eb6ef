//! Runs wait for machines, pools, Secrets and ConfigMaps. They wait in order, say why, and are
//! never lost.

use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot};
use agentvm_testing::wait_until_async;
use agentvm_tests::{World, condition, reason};
use agentvm_types::OwnerUid;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// A script that ends when the file exists.
fn until_there(file: &std::path::Path) -> String {
    format!("until [ -e {} ]; do sleep 0.02; done", file.display())
}

/// The message of a waiting run, as soon as it says why.
async fn waits(world: &World, name: &str) -> String {
    let run = world
        .until(name, "waits", |run: &AgentRun| reason(run, "Scheduled").starts_with("False/"))
        .await;
    condition(&run, "Scheduled").unwrap().message.clone()
}

#[tokio::test]
async fn more_runs_than_machines_all_end_and_no_machine_is_made_too_many() {
    let world = World::new().await;
    let pool = world.warm_pool("default", 2, 4).await;
    let names: Vec<String> = (0..6).map(|n| format!("run-{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        world.script(name, &format!("echo {name}; exit {n}"), json!({})).await;
    }
    for (n, name) in names.iter().enumerate() {
        let status = world.finished(name).await.status.unwrap();
        assert_eq!(
            (status.exit_code, status.stdout),
            (Some(i32::try_from(n).unwrap()), Some(format!("{name}\n")))
        );
        assert_eq!(status.attempts.len(), 1);
    }
    assert!(world.fake.peak(&OwnerUid::new(pool.metadata.uid.unwrap())) <= 4);
}

#[tokio::test]
async fn priority_goes_before_creation_and_creation_before_the_rest() {
    let world = World::new().await;
    world.warm_pool("default", 1, 1).await;
    let (gate, order) = (world.outside("gate"), world.outside("order"));
    world.script("holds", &until_there(&gate), json!({})).await;
    world.running("holds").await;
    let append = |name: &str| format!("echo {name} >> {}", order.display());
    for (name, priority) in [("low", -1), ("first", 0), ("urgent", 7), ("second", 0)] {
        world.script(name, &append(name), json!({"priority": priority})).await;
        waits(&world, name).await;
        // Creation times have a resolution of a second.
        let created = Timestamp::now().as_second();
        wait_until_async("another second", || async { Timestamp::now().as_second() > created })
            .await;
    }
    std::fs::write(gate, "").unwrap();
    for name in ["low", "first", "urgent", "second"] {
        world.finished(name).await;
    }
    assert_eq!(std::fs::read_to_string(order).unwrap(), "urgent\nfirst\nsecond\nlow\n");
}

#[tokio::test]
async fn a_waiting_run_says_for_what_in_numbers() {
    let world = World::new().await;
    world.warm_pool("default", 2, 2).await;
    let gate = world.outside("gate");
    for name in ["a", "b"] {
        world.script(name, &until_there(&gate), json!({})).await;
        world.running(name).await;
    }
    for ahead in 0..4 {
        let name = format!("waits-{ahead}");
        world.script(&name, "true", json!({"priority": -ahead})).await;
        let expected = format!("0 of 2 machines free (max 2), {ahead} runs before this one");
        assert_eq!(waits(&world, &name).await, expected);
    }
    let run = world.bench.api::<AgentRun>().get("waits-3").await.unwrap();
    assert_eq!(reason(&run, "Scheduled"), "False/WaitingForMachine");
    assert_eq!(
        (reason(&run, "Accepted"), reason(&run, "Succeeded")),
        ("True/Valid".into(), "Unknown/Running".into())
    );
    std::fs::write(gate, "").unwrap();
    for ahead in 0..4 {
        assert_eq!(
            reason(&world.finished(&format!("waits-{ahead}")).await, "Succeeded"),
            "True/Completed"
        );
    }
}

#[tokio::test]
async fn two_thousand_runs_of_one_key_do_not_hold_up_the_run_of_another() {
    const CROWD: usize = 2000;
    let world = World::new().await;
    world.warm_pool("default", 1, 1).await;
    let gate = world.outside("gate");
    let key = |key: &str| json!({"queue": {"key": key}});
    world.script("first", &until_there(&gate), key("crowd")).await;
    world.running("first").await;
    let mut crowd = JoinSet::new();
    for part in 0..8 {
        let runs = world.bench.api::<AgentRun>();
        crowd.spawn(async move {
            for n in (part..CROWD).step_by(8) {
                let spec = json!({"command": ["true"], "queue": {"key": "crowd"}});
                let run =
                    AgentRun::new(&format!("crowd-{n}"), serde_json::from_value(spec).unwrap());
                runs.create(&PostParams::default(), &run).await.unwrap();
            }
        });
    }
    crowd.join_all().await;
    world.script("one", "true", key("one")).await;
    let expected = "0 of 1 machines free (max 1), 0 runs before this one";
    assert_eq!(waits(&world, "one").await, expected);
    let began = std::time::Instant::now();
    std::fs::write(gate, "").unwrap();
    let one = world.finished("one").await;
    assert_eq!(reason(&one, "Succeeded"), "True/Completed");
    let taken = began.elapsed();
    assert!(taken < std::time::Duration::from_secs(20), "the router is held up: {taken:?}");
    let runs = world.bench.api::<AgentRun>().list(&ListParams::default()).await.unwrap();
    let claimed = |run: &&AgentRun| reason(*run, "Scheduled") == "True/Claimed";
    let earlier: Vec<String> = runs
        .iter()
        .filter(claimed)
        .filter(|run| claim_time(run) < claim_time(&one))
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(earlier, ["first"], "of {} runs", runs.items.len());
    // The use stands in the pool's status, whatever happens to the runs.
    let uses = |pool: &AgentVMPool| {
        let queue = pool.status.as_ref().and_then(|status| status.queue.as_ref());
        queue.is_some_and(|queue| queue.usage.iter().any(|it| it.key == "one"))
    };
    world.delete::<AgentRun>("one").await;
    world.until("default", "has the use of a deleted run", uses).await;
}

fn claim_time(run: &AgentRun) -> Option<String> {
    run.status.as_ref()?.attempts.first().map(|attempt| attempt.start_time.clone())
}

#[tokio::test]
async fn a_suspended_run_waits_without_a_deadline_and_one_that_executes_is_stopped() {
    let world = World::new().await;
    world.warm_pool("default", 1, 1).await;
    let suspend = |suspend: bool| json!({"spec": {"suspend": suspend}});
    let (gate, tries) = (world.outside("gate"), world.outside("tries"));
    let script = format!("echo try >> {}; {}", tries.display(), until_there(&gate));
    world.script("pauses", &script, json!({})).await;
    wait_until_async("the program runs", || async { tries.exists() }).await;
    let late = json!({"suspend": true, "queueTimeoutSeconds": 1});
    world.script("late", "true", late).await;
    world.says::<AgentRun>("late", "Suspended", "True/Suspended").await;
    world.patch::<AgentRun>("pauses", suspend(true)).await;
    let paused = world.says::<AgentRun>("pauses", "Scheduled", "False/Suspended").await;
    let attempts = &paused.status.as_ref().unwrap().attempts;
    assert_eq!(attempts[0].reason.as_deref(), Some("Suspended"));
    // It holds no machine: another run gets it. More than a second is over then.
    world.script("between", "sleep 1.2", json!({})).await;
    world.finished("between").await;
    let late = world.says::<AgentRun>("late", "Scheduled", "False/Suspended").await;
    assert_eq!(reason(&late, "Succeeded"), "Unknown/Running", "its time does not pass");
    std::fs::write(gate, "").unwrap();
    for name in ["late", "pauses"] {
        world.patch::<AgentRun>(name, suspend(false)).await;
        assert_eq!(reason(&world.finished(name).await, "Succeeded"), "True/Completed");
    }
    let attempts = world.finished("pauses").await.status.unwrap().attempts;
    assert_eq!(attempts.len(), 2, "it does not count for backoffLimit");
    assert_eq!(std::fs::read_to_string(tries).unwrap(), "try\ntry\n");
}

#[tokio::test]
async fn a_run_of_another_controller_is_left_alone() {
    let world = World::new().await;
    world.warm_pool("default", 1, 1).await;
    let theirs = json!({"managedBy": "kueue.x-k8s.io/multikueue"});
    world.script("theirs", "true", theirs).await;
    world.script("ours", "true", json!({"managedBy": "agentvm.dev/operator"})).await;
    assert_eq!(reason(&world.finished("ours").await, "Succeeded"), "True/Completed");
    let theirs = world.bench.api::<AgentRun>().get("theirs").await.unwrap();
    assert_eq!(agentvm_tests::condition(&theirs, "Accepted"), None);
    let change = Patch::Merge(json!({"spec": {"managedBy": "agentvm.dev/operator"}}));
    let runs = world.bench.api::<AgentRun>();
    let refused = runs.patch("theirs", &PatchParams::default(), &change).await.unwrap_err();
    assert!(refused.to_string().contains("managedBy cannot be changed"));
}

#[tokio::test]
async fn one_wait_ends_for_every_end_of_a_run() {
    let world = World::new().await;
    world.warm_pool("default", 1, 2).await;
    let gate = world.outside("never");
    for (name, script, more) in [
        ("completed", "true", json!({})),
        ("non-zero-exit", "exit 3", json!({})),
        ("invalid-spec", "true", json!({"timeoutSeconds": 600_000})),
        ("queue-timeout", "true", json!({"poolRef": {"name": "none"}, "queueTimeoutSeconds": 1})),
        ("deadline-exceeded", &*until_there(&gate), json!({"timeoutSeconds": 1})),
        ("cancelled", &*until_there(&gate), json!({})),
    ] {
        world.script(name, script, more).await;
        if name == "cancelled" {
            world.running(name).await;
            let cancel = json!({"spec": {"desiredState": "Cancelled"}});
            world.patch::<AgentRun>(name, cancel).await;
        }
        let finished = |run: &AgentRun| reason(run, "Finished").starts_with("True/");
        let run = world.until(name, "Finished is true", finished).await;
        let result = condition(&run, "Succeeded").unwrap();
        let kebab: String = result.reason.chars().flat_map(kebab).collect();
        assert_eq!(kebab.trim_start_matches('-'), name);
        assert_eq!(reason(&run, "Finished"), format!("True/{}", result.reason));
        assert!(run.status.unwrap().completion_time.is_some());
    }
}

/// `NonZero` as `-non-zero`.
fn kebab(letter: char) -> Vec<char> {
    if letter.is_uppercase() { vec!['-', letter.to_ascii_lowercase()] } else { vec![letter] }
}

#[tokio::test]
async fn a_missing_pool_is_said_at_once_and_one_that_appears_is_taken_at_once() {
    let world = World::new().await;
    world.warm_pool("default", 1, 1).await;
    let gate = world.outside("gate");
    world.script("holds", &until_there(&gate), json!({})).await;
    world.running("holds").await;
    world.script("waits", "true", json!({})).await;
    waits(&world, "waits").await;
    let soon = std::time::Duration::from_secs(5);
    let began = std::time::Instant::now();
    world.delete::<AgentVMPool>("default").await;
    world.says::<AgentRun>("waits", "Accepted", "False/PoolMissing").await;
    assert!(began.elapsed() < soon, "it was said after {:?}", began.elapsed());
    let began = std::time::Instant::now();
    let again = json!({"goldenSnapshotRef": {"name": "default"}, "warm": {"min": 1, "max": 2},
        "network": {"mode": "Isolated"}});
    world.create::<AgentVMPool>("default", again).await;
    world.says::<AgentRun>("waits", "Accepted", "True/Valid").await;
    assert!(began.elapsed() < soon, "it was seen after {:?}", began.elapsed());
    std::fs::write(gate, "").unwrap();
    assert_eq!(reason(&world.finished("waits").await, "Succeeded"), "True/Completed");
}

#[tokio::test]
async fn references_are_read_for_runs_that_are_next_only() {
    let world = World::new().await;
    world.warm_pool("default", 1, 1).await;
    let gate = world.outside("gate");
    world.script("holds", &until_there(&gate), json!({})).await;
    world.running("holds").await;
    let from = json!({"secretKeyRef": {"name": "s", "key": "k"}});
    let env = json!({"env": [{"name": "V", "valueFrom": from}]});
    for n in 0..20 {
        world.script(&format!("waits-{n}"), "true", env.clone()).await;
        waits(&world, &format!("waits-{n}")).await;
    }
    assert_eq!(reads(&world), 0, "no machine is free, so no run is next");
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}});
    let secret: Secret = serde_json::from_value(secret).unwrap();
    world.bench.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    std::fs::write(gate, "").unwrap();
    for n in 0..20 {
        world.finished(&format!("waits-{n}")).await;
    }
    assert!((20..60).contains(&reads(&world)), "{} reads for 20 runs", reads(&world));
}

#[tokio::test]
async fn a_new_object_is_in_progress_from_the_first_moment() {
    let world = World::at_rest().await;
    let golden = json!({"source": {"builtin": "Debian"}});
    world.create::<GoldenSnapshot>("new", golden).await;
    let pool = json!({"goldenSnapshotRef": {"name": "new"}});
    world.create::<AgentVMPool>("new", pool).await;
    world.script("new", "true", json!({})).await;
    let seen = [
        kstatus(&world.bench.api::<GoldenSnapshot>().get("new").await.unwrap()),
        kstatus(&world.bench.api::<AgentVMPool>().get("new").await.unwrap()),
        kstatus(&world.bench.api::<AgentRun>().get("new").await.unwrap()),
    ];
    assert_eq!(seen, ["InProgress"; 3]);
}

/// The generic rules of sigs.k8s.io/cli-utils, pkg/kstatus/status: the generation first, then
/// Reconciling and Stalled, then Ready. An object without any of them counts as healthy.
fn kstatus(object: &impl serde::Serialize) -> &'static str {
    let object = serde_json::to_value(object).unwrap();
    let observed = &object["status"]["observedGeneration"];
    if !observed.is_null() && *observed != object["metadata"]["generation"] {
        return "InProgress";
    }
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let is = |type_: &str, status: &str| {
        conditions.iter().any(|it| it["type"] == type_ && it["status"] == status)
    };
    if is("Reconciling", "True") {
        return "InProgress";
    }
    if is("Stalled", "True") {
        return "Failed";
    }
    if is("Ready", "False") || is("Ready", "Unknown") { "InProgress" } else { "Current" }
}

#[tokio::test]
async fn a_run_waits_for_its_pool() {
    let world = World::new().await;
    world.script("early", "echo ran", json!({"poolRef": {"name": "later"}})).await;
    let run = world.says::<AgentRun>("early", "Accepted", "False/PoolMissing").await;
    assert!(condition(&run, "Accepted").unwrap().message.contains("spec.poolRef.name"));
    world.pool("later", 1, 1).await;
    assert_eq!(reason(&world.finished("early").await, "Succeeded"), "True/Completed");
}

#[tokio::test]
async fn a_run_waits_for_what_it_refers_to_and_holds_up_nobody() {
    let world = World::new().await;
    world.warm_pool("default", 1, 1).await;
    let env = |from: Value| json!({"env": [{"name": "V", "valueFrom": from}]});
    world
        .script("secret", "echo $V", env(json!({"secretKeyRef": {"name": "s", "key": "k"}})))
        .await;
    world
        .script("map", "echo $V", env(json!({"configMapKeyRef": {"name": "m", "key": "k"}})))
        .await;
    let run = world.says::<AgentRun>("secret", "Accepted", "False/SecretMissing").await;
    assert!(
        condition(&run, "Accepted")
            .unwrap()
            .message
            .contains("spec.env[0].valueFrom: there is no Secret \"s\"")
    );
    world.says::<AgentRun>("map", "Accepted", "False/ConfigMapMissing").await;
    let looked = reads(&world);
    world.script("other", "true", json!({})).await;
    assert_eq!(
        reason(&world.finished("other").await, "Succeeded"),
        "True/Completed",
        "though two came before it"
    );
    assert!(
        reads(&world) < looked + 20,
        "it looks from time to time, not all the time: {} times",
        reads(&world)
    );

    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"k": "found"}})).unwrap();
    world.bench.api::<ConfigMap>().create(&PostParams::default(), &map).await.unwrap();
    let mut secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "s"}, "stringData": {"other": "x"}}))
            .unwrap();
    let secrets = world.bench.api::<Secret>();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let no_key = |run: &AgentRun| {
        condition(run, "Accepted").is_some_and(|c| c.message.contains("has no key \"k\""))
    };
    world.until("secret", "says that the key is missing", no_key).await;
    secret.string_data = Some([("k".to_owned(), "hush".to_owned())].into());
    secrets.replace("s", &PostParams::default(), &secret).await.unwrap();
    assert_eq!(world.finished("map").await.status.unwrap().stdout.unwrap(), "found\n");
    assert_eq!(world.finished("secret").await.status.unwrap().stdout.unwrap(), "hush\n");
}

/// The number of times that the operator asked for a Secret or ConfigMap.
fn reads(world: &World) -> usize {
    let all = world.wire.all();
    all.iter()
        .filter(|sent| sent.path.contains("/secrets/") || sent.path.contains("/configmaps/"))
        .count()
}

#[tokio::test]
async fn who_waits_too_long_ends() {
    let world = World::new().await;
    world
        .script("late", "true", json!({"poolRef": {"name": "never"}, "queueTimeoutSeconds": 1}))
        .await;
    let run = world.finished("late").await;
    assert_eq!(reason(&run, "Succeeded"), "False/QueueTimeout");
    let message = &condition(&run, "Succeeded").unwrap().message;
    assert!(message.contains("1 s") && message.contains("no AgentVMPool \"never\""), "{message}");
}

#[tokio::test]
async fn what_only_the_operator_can_see_to_be_wrong_is_said_with_its_path() {
    let world = World::new().await;
    world.pool_with("default", json!({"warm": {"min": 1, "max": 1}, "maxRunSeconds": 60})).await;
    world.says::<AgentVMPool>("default", "Ready", "True/Filled").await;
    // Each of these characters takes six bytes when it is encoded; admission counts characters.
    let large = "\u{1}".repeat(100_000);
    let mistakes = [
        (
            "long",
            json!({"timeoutSeconds": 61}),
            "spec.timeoutSeconds: is 61; the pool allows at most 60",
        ),
        ("large", json!({"stdin": large}), "spec: is 600"),
        (
            "below",
            json!({"files": [{"path": "a", "content": ""}, {"path": "a/b", "content": ""}]}),
            "spec.files[1].path: ",
        ),
        (
            "base",
            json!({"files": [{"path": "a", "contentBase64": "A"}]}),
            "spec.files[0].contentBase64: ",
        ),
    ];
    for (name, more, message) in mistakes {
        world.script(name, "true", more).await;
        let run = world.finished(name).await;
        assert_eq!(
            (reason(&run, "Accepted"), reason(&run, "Succeeded")),
            ("False/InvalidSpec".into(), "False/InvalidSpec".into())
        );
        let said = &condition(&run, "Accepted").unwrap().message;
        assert!(said.starts_with(message), "{name}: {said}");
        assert_eq!(run.status.unwrap().attempts, []);
    }
    world.script("default-gives-way", "true", json!({})).await;
    assert_eq!(reason(&world.finished("default-gives-way").await, "Succeeded"), "True/Completed");
}
