//! The API server accepts some changes of an existing object and refuses others, also where a field
//! is added or removed.

use std::fmt::Debug;

use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot};
use agentvm_tests::Bench;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

trait Object: kube::Resource + Clone + Debug + DeserializeOwned + Serialize {}
impl<K: kube::Resource + Clone + Debug + DeserializeOwned + Serialize> Object for K {}

async fn create<K: Object>(api: &Api<K>, kind: &str, name: &str, spec: Value) {
    let object = json!({"apiVersion": "agentvm.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name}, "spec": spec});
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

/// Merges into the spec; null removes a field.
async fn change<K: Object>(api: &Api<K>, name: &str, spec: &Value) -> Result<K, String> {
    match api.patch(name, &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await {
        Ok(changed) => Ok(changed),
        Err(kube::Error::Api(refusal)) if refusal.code == 422 => Err(refusal.message),
        Err(other) => panic!("neither accepted nor refused: {other:?}"),
    }
}

async fn assert_frozen<K: Object>(api: &Api<K>, name: &str, changes: Vec<(Value, &str)>) {
    for (spec, field) in changes {
        let Err(refusal) = change(api, name, &spec).await else { panic!("accepted: {spec}") };
        let says = refusal.contains(&format!("spec.{field}: "))
            && refusal.contains(&format!("{field} cannot be changed"));
        assert!(says, "{spec}: the refusal doesn't name {field}: {refusal}");
    }
}

#[tokio::test]
async fn a_full_run_keeps_its_spec() {
    let bench = Bench::new().await.unwrap();
    let runs = bench.api::<AgentRun>();
    let spec = json!({
        "command": ["sleep", "60"], "stdin": "a", "timeoutSeconds": 100,
        "env": [{"name": "A", "value": "1"}, {"name": "B"}], "files": [{"path": "a",
            "content": "1"}]
    });
    create(&runs, "AgentRun", "full", spec).await;
    assert_frozen(
        &runs,
        "full",
        vec![
            (json!({"poolRef": {"name": "other"}}), "poolRef"),
            (json!({"command": ["sleep", "61"]}), "command"),
            (json!({"command": null, "code": {"language": "Bash", "source": "a"}}), "command"),
            (json!({"command": null, "code": {"language": "Bash", "source": "a"}}), "code"),
            (json!({"runAs": "Root"}), "runAs"),
            (json!({"env": [{"name": "A", "value": "2"}, {"name": "B"}]}), "env"),
            (json!({"env": [{"name": "A", "value": "1"}, {"name": "B"}, {"name": "C"}]}), "env"),
            (json!({"env": null}), "env"),
            (json!({"files": [{"path": "a", "content": "1", "mode": 1}]}), "files"),
            (json!({"files": []}), "files"),
            (json!({"files": null}), "files"),
            (json!({"stdin": "b"}), "stdin"),
            (json!({"stdin": null}), "stdin"),
            (json!({"timeoutSeconds": 101}), "timeoutSeconds"),
            (json!({"timeoutSeconds": null}), "timeoutSeconds"),
            (json!({"queueTimeoutSeconds": 601}), "queueTimeoutSeconds"),
            (json!({"backoffLimit": 1}), "backoffLimit"),
            (json!({"priority": 1}), "priority"),
            (json!({"output": {"include": ["a"]}}), "output"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_short_run_gets_nothing_added() {
    let bench = Bench::new().await.unwrap();
    let runs = bench.api::<AgentRun>();
    create(&runs, "AgentRun", "short", json!({"command": ["true"]})).await;
    assert_frozen(
        &runs,
        "short",
        vec![
            (json!({"env": [{"name": "A"}]}), "env"),
            (json!({"files": [{"path": "a", "content": ""}]}), "files"),
            (json!({"stdin": ""}), "stdin"),
            (json!({"timeoutSeconds": 300}), "timeoutSeconds"),
            (json!({"output": {"maxBytes": 1}}), "output"),
        ],
    )
    .await;
    let unchanged = json!({"poolRef": {"name": "default"}, "priority": 0, "output": null,
        "queueTimeoutSeconds": null});
    change(&runs, "short", &unchanged).await.unwrap();
}

#[tokio::test]
async fn a_run_can_be_cancelled_and_no_more() {
    let bench = Bench::new().await.unwrap();
    let runs = bench.api::<AgentRun>();
    create(&runs, "AgentRun", "run", json!({"command": ["true"]})).await;
    change(&runs, "run", &json!({"ttlSecondsAfterFinished": 1})).await.unwrap();
    change(&runs, "run", &json!({"desiredState": "Running"})).await.unwrap();
    let cancelled = change(&runs, "run", &json!({"desiredState": "Cancelled"})).await.unwrap();
    assert_eq!(cancelled.spec.desired_state, agentvm_crds::DesiredState::Cancelled);
    for back in [json!({"desiredState": "Running"}), json!({"desiredState": null})] {
        let refusal = change(&runs, "run", &back).await.unwrap_err();
        assert!(
            refusal.contains("spec.desiredState: ") && refusal.contains("cannot be started again"),
            "{refusal}"
        );
    }
    change(&runs, "run", &json!({"ttlSecondsAfterFinished": null})).await.unwrap();
}

#[tokio::test]
async fn the_largest_run_can_still_be_cancelled() {
    let bench = Bench::new().await.unwrap();
    let runs = bench.api::<AgentRun>();
    let long = "long-name-of-a-folder/".repeat(20);
    let files: Vec<_> = (0..256)
        .map(|n| json!({"path": format!("{long}{n}"), "content": "x".repeat(1000)}))
        .collect();
    let env: Vec<_> =
        (0..256).map(|n| json!({"name": format!("V{n}"), "value": "y".repeat(200)})).collect();
    let command: Vec<_> = (0..1024).map(|n| format!("argument-{n}")).collect();
    create(&runs, "AgentRun", "large", json!({"command": command, "env": env, "files": files}))
        .await;
    assert_frozen(
        &runs,
        "large",
        vec![(json!({"files": []}), "files"), (json!({"env": []}), "env")],
    )
    .await;
    change(&runs, "large", &json!({"desiredState": "Cancelled"})).await.unwrap();

    let code = json!({"language": "Python", "source": "é".repeat(250_000)});
    create(&runs, "AgentRun", "long", json!({ "code": code })).await;
    change(&runs, "long", &json!({"desiredState": "Cancelled"})).await.unwrap();
}

#[tokio::test]
async fn a_golden_snapshot_keeps_its_recipe() {
    let bench = Bench::new().await.unwrap();
    let goldens = bench.api::<GoldenSnapshot>();
    create(&goldens, "GoldenSnapshot", "plain", json!({"source": {"builtin": "Debian"}})).await;
    let rootfs = json!({"builtin": null, "rootfs": {"path": "a.raw", "sha256": "0".repeat(64)}});
    let setup = json!({"steps": [{"command": ["true"]}]});
    assert_frozen(
        &goldens,
        "plain",
        vec![
            (json!({ "source": rootfs }), "source"),
            (json!({"resources": {"profile": "Light"}}), "resources"),
            (json!({ "setup": setup }), "setup"),
        ],
    )
    .await;
    change(&goldens, "plain", &json!({"description": "for tests"})).await.unwrap();
    change(&goldens, "plain", &json!({"description": null})).await.unwrap();

    let full =
        json!({"source": {"builtin": "Debian"}, "resources": {"profile": "Light"}, "setup": setup});
    create(&goldens, "GoldenSnapshot", "full", full).await;
    assert_frozen(
        &goldens,
        "full",
        vec![
            (json!({"resources": null}), "resources"),
            (json!({"resources": {"profile": null}}), "resources"),
            (json!({"setup": null}), "setup"),
            (json!({"setup": {"steps": [{"command": ["true"], "timeoutSeconds": 1}]}}), "setup"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_pool_can_be_changed_and_scaled() {
    let bench = Bench::new().await.unwrap();
    let pools = bench.api::<AgentVMPool>();
    let spec = json!({"goldenSnapshotRef": {"name": "debian"}, "warm": {"min": 1, "max": 4}});
    create(&pools, "AgentVMPool", "pool", spec).await;
    change(
        &pools,
        "pool",
        &json!({"goldenSnapshotRef": {"name": "other"}, "network": {"mode": "Isolated"}}),
    )
    .await
    .unwrap();

    let scaled = bench.kubectl(&["scale", "avmp/pool", "--replicas=3"]).await.unwrap();
    assert!(scaled.status.success(), "{}", String::from_utf8_lossy(&scaled.stderr));
    assert_eq!(pools.get("pool").await.unwrap().spec.warm.unwrap().min, Some(3));
    let too_many = bench.kubectl(&["scale", "avmp/pool", "--replicas=5"]).await.unwrap();
    assert!(
        String::from_utf8_lossy(&too_many.stderr).contains("min must not be greater than max"),
        "{too_many:?}"
    );

    let status = json!({"status": {"warm": 2}});
    pools.patch_status("pool", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let scale = pools.get_scale("pool").await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(3));
    assert_eq!(scale.status.unwrap().replicas, 2);
}
