//! Runs wait for machines, pools, Secrets and ConfigMaps. They wait in order, say why, and are
//! never lost.

use agentvm_crds::{AgentRun, AgentVMPool};
use agentvm_testing::wait_until_async;
use agentvm_tests::{World, condition, reason};
use agentvm_types::OwnerUid;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PostParams;
use serde_json::{Value, json};

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
