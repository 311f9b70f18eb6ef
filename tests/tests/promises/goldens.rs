//! A golden is captured once, shared by recipe, and swept when nothing needs it. A failure is told
//! with its path.

use agentvm_crds::{AgentVMPool, GoldenNodeState, GoldenSnapshot};
use agentvm_hypervisor::HvError;
use agentvm_hypervisor::fake::{Fault, Op};
use agentvm_hypervisor::{GoldenApi, MachineApi};
use agentvm_testing::wait_until_async;
use agentvm_tests::{World, condition, reason};
use serde_json::{Value, json};

fn debian(steps: &[&str]) -> Value {
    let steps: Vec<_> = steps.iter().map(|step| json!({"command": ["bash", "-c", step]})).collect();
    if steps.is_empty() {
        json!({"source": {"builtin": "Debian"}})
    } else {
        json!({"source": {"builtin": "Debian"}, "setup": {"steps": steps}})
    }
}

fn said(snapshot: &GoldenSnapshot) -> &str {
    &condition(snapshot, "Ready").unwrap().message
}

#[tokio::test]
async fn what_setup_made_is_in_every_machine() {
    let world = World::new().await;
    // A template's setup works in /root. The fake keeps the content of a machine's work folder.
    let steps = ["echo one > /workspace/work/made", "echo two >> /workspace/work/made"];
    world.create::<GoldenSnapshot>("made", debian(&steps)).await;
    let golden = world.says::<GoldenSnapshot>("made", "Ready", "True/Captured").await;
    let status = golden.status.as_ref().unwrap();
    let [node] = status.nodes.as_slice() else { panic!("{:?}", status.nodes) };
    assert_eq!(
        (node.name.as_str(), node.layout.as_str(), node.state),
        ("node-a", "Nic", GoldenNodeState::Ready)
    );
    assert!(
        node.captured_time.is_some()
            && node.boot_seconds.is_some()
            && node.digest.is_some()
            && node.key.is_some()
    );
    assert!(status.digest.as_ref().unwrap().starts_with("sha256:"));
    assert_eq!(
        (reason(&golden, "Stalled"), reason(&golden, "Reconciling")),
        (String::new(), String::new())
    );
    let spec = json!({"goldenSnapshotRef": {"name": "made"}, "warm": {"min": 1, "max": 1},
        "network": {"mode": "Isolated"}});
    world.create::<AgentVMPool>("default", spec).await;
    world.script("reads", "cat made", json!({})).await;
    assert_eq!(world.finished("reads").await.status.unwrap().stdout.unwrap(), "one\ntwo\n");
}

#[tokio::test]
async fn a_step_that_fails_is_named_with_what_it_said() {
    let world = World::new().await;
    world
        .create::<GoldenSnapshot>("bad", debian(&["true", "echo the disk is on fire; exit 7"]))
        .await;
    let golden = world.says::<GoldenSnapshot>("bad", "Stalled", "True/SetupFailed").await;
    assert_eq!(reason(&golden, "Ready"), "False/SetupFailed");
    let said = said(&golden);
    assert!(
        said.starts_with("spec.setup.steps[1]: exited with 7")
            && said.contains("the disk is on fire"),
        "{said}"
    );
    assert_eq!(world.fake.list().await.unwrap(), [], "no template is left");
    assert_eq!(world.fake.goldens().await.unwrap(), []);
    let spec = json!({"goldenSnapshotRef": {"name": "bad"}, "network": {"mode": "Isolated"}});
    world.create::<AgentVMPool>("of-bad", spec).await;
    let said = |pool: &AgentVMPool| {
        condition(pool, "Ready").is_some_and(|c| c.message.contains("the disk is on fire"))
    };
    let pool = world.until("of-bad", "says why", said).await;
    assert_eq!(reason(&pool, "Ready"), "False/SnapshotNotReady");
}

#[tokio::test]
async fn one_recipe_is_captured_once_and_goes_with_its_last_snapshot() {
    let world = World::new().await;
    for name in ["one", "two"] {
        world.create::<GoldenSnapshot>(name, debian(&["true"])).await;
    }
    let mut keys = Vec::new();
    for name in ["one", "two"] {
        let golden = world.says::<GoldenSnapshot>(name, "Ready", "True/Captured").await;
        keys.push(golden.status.unwrap().nodes[0].key.clone().unwrap());
    }
    assert_eq!((keys[0] == keys[1], world.fake.faults().calls(Op::Capture)), (true, 1));
    world.delete::<GoldenSnapshot>("one").await;
    let spec = json!({"goldenSnapshotRef": {"name": "two"}, "warm": {"min": 1, "max": 1},
        "network": {"mode": "Isolated"}});
    world.create::<AgentVMPool>("default", spec).await;
    let gate = world.outside("gate");
    world
        .script("run", &format!("until [ -e {} ]; do sleep 0.02; done", gate.display()), json!({}))
        .await;
    world.running("run").await;
    world.delete::<GoldenSnapshot>("two").await;
    let pool = world.says::<AgentVMPool>("default", "Degraded", "True/SnapshotMissing").await;
    assert_eq!(pool.status.unwrap().claimed, 1);
    assert_eq!(world.fake.goldens().await.unwrap().len(), 1, "a machine of it is still there");
    std::fs::write(gate, "").unwrap();
    assert_eq!(reason(&world.finished("run").await, "Succeeded"), "True/Completed");
    let swept = || async { world.fake.goldens().await.unwrap().is_empty() };
    world.delete::<AgentVMPool>("default").await;
    wait_until_async("the golden is swept", swept).await;
}

#[tokio::test]
async fn a_source_that_is_not_there_is_said_without_a_word_on_what_is_elsewhere() {
    let world = World::new().await;
    let images = world.folder.join("images");
    std::fs::create_dir(&images).unwrap();
    std::fs::write(images.join("there.img"), "abc").unwrap();
    std::fs::write(world.folder.join("outside.img"), "def").unwrap();
    std::os::unix::fs::symlink(world.folder.join("outside.img"), images.join("leads-out.img"))
        .unwrap();
    std::os::unix::fs::symlink(world.folder.join("nothing.img"), images.join("leads-nowhere.img"))
        .unwrap();
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let rootfs =
        |path: &str, sha256: &str| json!({"source": {"rootfs": {"path": path, "sha256": sha256}}});
    world.create::<GoldenSnapshot>("missing", rootfs("missing.img", abc)).await;
    let missing = world.says::<GoldenSnapshot>("missing", "Ready", "False/SourceMissing").await;
    assert_eq!(reason(&missing, "Stalled"), "", "it is looked for again");
    std::fs::write(images.join("missing.img"), "abc").unwrap();
    world.says::<GoldenSnapshot>("missing", "Ready", "True/Captured").await;
    // The digest is right, so only the path can be wrong. (One digest is one golden, whatever its
    // path.)
    let def = "cb8379ac2098aa165029e3938a51da0bcecfc008fd6795f401178647f96c5b34";
    world.create::<GoldenSnapshot>("out", rootfs("leads-out.img", def)).await;
    world.create::<GoldenSnapshot>("nowhere", rootfs("leads-nowhere.img", &"1".repeat(64))).await;
    world.create::<GoldenSnapshot>("other", rootfs("there.img", &"0".repeat(64))).await;
    world.create::<GoldenSnapshot>("good", rootfs("there.img", abc)).await;
    let mut messages = vec![said(&missing).to_owned()];
    for name in ["out", "nowhere"] {
        let golden = world.says::<GoldenSnapshot>(name, "Ready", "False/SourceMissing").await;
        messages.push(said(&golden).to_owned());
    }
    assert!(messages.iter().all(|message| *message == messages[0]), "{messages:?}");
    assert!(messages[0].contains("spec.source.rootfs.path"), "{messages:?}");
    let other = world.says::<GoldenSnapshot>("other", "Ready", "False/SourceMissing").await;
    assert!(said(&other).contains("spec.source.rootfs.sha256"), "{}", said(&other));
    world.says::<GoldenSnapshot>("good", "Ready", "True/Captured").await;
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_waited_for() {
    let mut world = World::at_rest().await;
    let unavailable = || {
        Fault::Fail(HvError::Unavailable {
            uri: "fake:///".into(),
            detail: "nobody is home".into(),
        })
    };
    for nth in 1..=3 {
        world.fake.faults().nth(Op::Health, nth, unavailable());
    }
    world.start().await;
    world.pool("default", 1, 1).await;
    world.script("run", "true", json!({})).await;
    let why = |golden: &GoldenSnapshot| {
        reason(golden, "Ready") == "False/HypervisorUnavailable"
            && said(golden).contains("nobody is home")
    };
    let golden = world.until("default", "says why", why).await;
    assert_eq!(reason(&golden, "Stalled"), "", "it comes back by itself");
    world.says::<AgentVMPool>("default", "Ready", "False/HypervisorUnavailable").await;
    let run = world.finished("run").await;
    assert_eq!(reason(&run, "Succeeded"), "True/Completed");
    world.says::<GoldenSnapshot>("default", "Ready", "True/Captured").await;
}

#[tokio::test]
async fn a_capture_that_breaks_leaves_nothing_and_is_tried_again() {
    let world = World::new().await;
    let refused = || {
        Fault::Fail(HvError::Refused {
            what: "write it down".into(),
            detail: "the disk is full".into(),
        })
    };
    world.fake.faults().next(Op::Capture, refused());
    world.create::<GoldenSnapshot>("golden", debian(&[])).await;
    let golden = world.says::<GoldenSnapshot>("golden", "Ready", "False/CaptureFailed").await;
    assert!(said(&golden).contains("the disk is full"), "{}", said(&golden));
    assert_eq!(world.fake.list().await.unwrap(), []);
    world.says::<GoldenSnapshot>("golden", "Ready", "True/Captured").await;
}
