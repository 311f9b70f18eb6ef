//! A run goes from create to its end. Its status says what it did: exit code, streams, artifacts,
//! times.

use agentvm_crds::{AgentRun, AgentRunStatus};
use agentvm_hypervisor::MachineApi;
use agentvm_tests::{World, condition, reason};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PostParams;
use serde_json::{Value, json};

async fn world() -> World {
    let world = World::new().await;
    world.warm_pool("default", 1, 3).await;
    world
}

fn status(run: &AgentRun) -> &AgentRunStatus {
    run.status.as_ref().unwrap()
}

fn stdout(run: &AgentRun) -> &str {
    status(run).stdout.as_deref().unwrap_or_default()
}

fn message(run: &AgentRun) -> &str {
    &condition(run, "Succeeded").unwrap().message
}

#[tokio::test]
async fn all_that_a_run_leaves_is_in_its_status() {
    let world = world().await;
    let script = "echo out; echo err >&2; mkdir -p /workspace/output/deep; printf abc > \
        /workspace/output/deep/a.txt; \
                  ln -s /etc/passwd /workspace/output/link; touch /workspace/output/left-out.log";
    world.script("whole", script, json!({"output": {"include": ["deep/**", "link"]}})).await;
    let run = world.finished("whole").await;
    assert_eq!(reason(&run, "Succeeded"), "True/Completed");
    assert_eq!(
        (reason(&run, "Accepted"), reason(&run, "Scheduled")),
        ("True/Valid".into(), "True/Claimed".into())
    );
    let status = status(&run);
    assert_eq!(status.exit_code, Some(0));
    assert_eq!((status.stdout.as_deref(), status.stdout_truncated), (Some("out\n"), Some(false)));
    assert_eq!((status.stderr.as_deref(), status.stderr_truncated), (Some("err\n"), Some(false)));
    let output = status.output.as_ref().unwrap();
    let files: Vec<_> =
        output.files.iter().map(|f| (f.path.as_str(), f.size_bytes, f.sha256.as_str())).collect();
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(files, [("deep/a.txt", 3, abc)], "neither the link nor what wasn't asked for");
    assert!(output.skipped.iter().any(|skipped| skipped.contains("link")), "{:?}", output.skipped);
    assert_eq!(
        std::fs::read(std::path::Path::new(&output.location).join("deep/a.txt")).unwrap(),
        b"abc"
    );
    let timings = status.timings.as_ref().unwrap();
    assert!(timings.execute_millis > 0 && timings.execute_millis < 30_000, "{timings:?}");
    assert!(status.duration_seconds.is_some_and(|seconds| seconds > 0.0 && seconds < 30.0));
    let [attempt] = status.attempts.as_slice() else { panic!("{:?}", status.attempts) };
    assert_eq!(
        (attempt.number, attempt.exit_code, attempt.reason.as_deref()),
        (1, Some(0), Some("Completed"))
    );
    assert_eq!(
        (status.node_name.as_deref(), status.vm_name.as_deref()),
        (Some("node-a"), Some(&*attempt.vm_name))
    );
    let ended = attempt.end_time.as_deref().unwrap();
    assert!(
        ended.ends_with("-05:00") || ended.ends_with("-04:00"),
        "times are New York's: {ended}"
    );
    assert_eq!(run.metadata.finalizers, None);
}

#[tokio::test]
async fn each_way_to_end_has_its_reason() {
    let world = world().await;
    world.script("three", "echo before; exit 3", json!({})).await;
    world.script("signal", "kill -9 $$", json!({})).await;
    world.create::<AgentRun>("nothing", json!({"command": ["no-such-program"]})).await;
    let three = world.finished("three").await;
    assert_eq!(
        (reason(&three, "Succeeded"), status(&three).exit_code),
        ("False/NonZeroExit".into(), Some(3))
    );
    assert_eq!(
        (stdout(&three), status(&three).attempts.len()),
        ("before\n", 1),
        "a result, not a failure to retry"
    );
    let signal = world.finished("signal").await;
    assert_eq!(
        (reason(&signal, "Succeeded"), status(&signal).signal),
        ("False/NonZeroExit".into(), Some(9))
    );
    assert!(message(&signal).contains("signal 9"), "{}", message(&signal));
    let nothing = world.finished("nothing").await;
    assert_eq!(
        (reason(&nothing, "Succeeded"), status(&nothing).exit_code),
        ("False/NonZeroExit".into(), Some(127))
    );
    assert!(
        status(&nothing).stderr.as_deref().unwrap().contains("not found"),
        "{:?}",
        status(&nothing).stderr
    );
}

#[tokio::test]
async fn a_run_that_ignores_sigterm_ends_at_its_deadline_all_the_same() {
    let world = world().await;
    world
        .script(
            "deaf",
            "trap '' TERM; echo begun; sleep 600 & wait; sleep 600",
            json!({"timeoutSeconds": 1}),
        )
        .await;
    let run = world.finished("deaf").await;
    assert_eq!(reason(&run, "Succeeded"), "False/DeadlineExceeded");
    assert_eq!(stdout(&run), "begun\n", "what it wrote before isn't lost");
    assert!(status(&run).duration_seconds.unwrap() > 5.0, "SIGKILL comes 5 s after SIGTERM");
}

#[tokio::test]
async fn a_run_is_cancelled_while_it_waits_and_while_it_executes() {
    let world = world().await;
    let cancel = || json!({"spec": {"desiredState": "Cancelled"}});
    world.script("waits", "true", json!({"poolRef": {"name": "nowhere"}})).await;
    world.script("executes", "echo begun; sleep 600", json!({})).await;
    let nonce = world.running("executes").await.status.unwrap().attempts.remove(0).nonce;
    world.patch::<AgentRun>("waits", cancel()).await;
    world.patch::<AgentRun>("executes", cancel()).await;
    let (waits, executes) = (world.finished("waits").await, world.finished("executes").await);
    assert_eq!(
        (reason(&waits, "Succeeded"), status(&waits).attempts.len()),
        ("False/Cancelled".into(), 0)
    );
    assert_eq!(reason(&executes, "Succeeded"), "False/Cancelled");
    let gone = || async {
        world
            .fake
            .list()
            .await
            .unwrap()
            .iter()
            .all(|machine| machine.record.nonce.as_str() != nonce)
    };
    agentvm_testing::wait_until_async("its machine is gone, or another incarnation", gone).await;
}

#[tokio::test]
async fn what_goes_in_arrives() {
    let world = world().await;
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "s"}, "stringData": {"key": "hush"}}))
            .unwrap();
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"key": "plain"}}))
            .unwrap();
    world.bench.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    world.bench.api::<ConfigMap>().create(&PostParams::default(), &map).await.unwrap();
    let from_secret = json!({"secretKeyRef": {"name": "s", "key": "key"}});
    let from_map = json!({"configMapKeyRef": {"name": "m", "key": "key"}});
    let script = r#"cat; echo; echo "$PLAIN $SECRET $MAP"; cd /workspace/input
        stat -c '%a %n' dir/exec.sh bytes; dir/exec.sh; od -An -tx1 bytes; cat from-map; echo
        cd /workspace/secrets; stat -c '%a %n' token; cat token"#;
    world
        .script(
            "in",
            script,
            json!({
                "stdin": "fed",
                "env": [
                    {"name": "PLAIN", "value": "a b"},
                    {"name": "SECRET", "valueFrom": from_secret},
                    {"name": "MAP", "valueFrom": from_map},
                ],
                "files": [
                    {"path": "dir/exec.sh", "content": "#!/bin/sh\necho ran\n", "mode": 0o755},
                    {"path": "bytes", "contentBase64": "AP8K", "mode": 0o400},
                    {"path": "from-map", "contentFrom": from_map},
                    {"path": "token", "contentFrom": from_secret, "place": "Secrets",
                        "mode": 0o600},
                ],
            }),
        )
        .await;
    let run = world.finished("in").await;
    let expected =
        "fed\na b hush plain\n755 dir/exec.sh\n400 bytes\nran\n 00 ff 0a\nplain\n600 token\nhush";
    assert_eq!((stdout(&run), status(&run).stderr.as_deref()), (expected, Some("")));
    let kept = serde_json::to_string(&world.bench.api::<AgentRun>().get("in").await.unwrap().spec)
        .unwrap();
    assert!(!kept.contains("hush"), "the value of a Secret is nowhere in the object");
}

#[tokio::test]
async fn code_in_three_languages() {
    let world = world().await;
    let code =
        |language: &str, source: &str| json!({"code": {"language": language, "source": source}});
    world
        .create::<AgentRun>("python", code("Python", "import sys; print(6 * 7); sys.exit(4)"))
        .await;
    world.create::<AgentRun>("bash", code("Bash", "echo ${BASH_VERSION:+bash}; pwd")).await;
    world
        .create::<AgentRun>(
            "javascript",
            code("JavaScript", "console.log([1, 2].map(n => n * 2).join())"),
        )
        .await;
    let python = world.finished("python").await;
    assert_eq!((stdout(&python), status(&python).exit_code), ("42\n", Some(4)));
    let bash = world.finished("bash").await;
    assert!(
        stdout(&bash).starts_with("bash\n") && stdout(&bash).ends_with("/work\n"),
        "{:?}",
        stdout(&bash)
    );
    assert_eq!(stdout(&world.finished("javascript").await), "2,4\n");
}

#[tokio::test]
async fn too_much_is_cut_and_said() {
    let world = world().await;
    let limit = |bytes: u32| json!({"output": {"maxBytes": bytes}});
    world.script("large", "head -c 5000 /dev/zero > /workspace/output/large", limit(4096)).await;
    world
        .script(
            "loud",
            "echo first; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo the verdict; \
                echo end >&2",
            limit(1 << 20),
        )
        .await;
    world
        .script(
            "binary",
            "printf 'a\\xff\\x00b\\xc3'; printf '\\xe4' > /workspace/output/$'n\\xe4me'",
            json!({}),
        )
        .await;
    let large = world.finished("large").await;
    assert_eq!(
        (reason(&large, "Succeeded"), status(&large).exit_code),
        ("False/OutputTooLarge".into(), Some(0))
    );
    let loud = world.finished("loud").await;
    assert_eq!(reason(&loud, "Succeeded"), "True/Completed", "{}", message(&loud));
    assert_eq!(
        (status(&loud).stdout_truncated, status(&loud).stderr_truncated),
        (Some(true), Some(false))
    );
    assert_eq!(status(&loud).stderr.as_deref(), Some("end\n"));
    // 6 bytes before the x, 13 after them.
    let mark = agentvm_core::status::missing_mark(100_000_019 - (1 << 20));
    assert!(stdout(&loud).len() <= 16 * 1024 && stdout(&loud).starts_with(&mark));
    assert!(stdout(&loud).ends_with("xxx\nthe verdict\n"), "the true end");
    let kept = std::path::Path::new(&status(&loud).output.as_ref().unwrap().location)
        .with_file_name("stdout");
    let kept = std::fs::read_to_string(kept).unwrap();
    assert_eq!(kept.len(), (1 << 20) + mark.len() + 2, "the rest was never kept");
    assert!(kept.starts_with("first\nxxx") && kept.ends_with("xxx\nthe verdict\n"));
    assert!(kept.contains(&format!("x\n{mark}\nx")));
    let binary = world.finished("binary").await;
    assert_eq!(stdout(&binary), "a\u{fffd}\u{fffd}b\u{fffd}");
    let output = status(&binary).output.as_ref().unwrap();
    assert_eq!((output.files.len(), output.skipped.len()), (0, 1), "{output:?}");
    let size = serde_json::to_vec(&serde_json::to_value(status(&loud)).unwrap_or(Value::Null))
        .unwrap()
        .len();
    assert!(size <= agentvm_crds::MAX_STATUS_BYTES);
}
