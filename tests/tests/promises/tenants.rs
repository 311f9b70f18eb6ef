//! The means by which Kubernetes divides a cluster among people also work on a single host: quotas
//! for runs, and the roles `view`, `edit` and `admin`.

use agentvm_crds::{AgentRun, AgentVMPool};
use agentvm_testing::wait_until_async;
use agentvm_tests::Bench;
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

const COUNTED: &str = "count/agentruns.agentvm.dev";

fn run(name: &str) -> AgentRun {
    object(json!({
        "apiVersion": "agentvm.dev/v1alpha1", "kind": "AgentRun", "metadata": {"name": name},
        "spec": {"command": ["true"]},
    }))
}

fn object<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

/// The HTTP status of a refusal, with its message; `None` where the call succeeded.
fn refused<T: std::fmt::Debug>(done: Result<T, kube::Error>) -> Option<(u16, String)> {
    match done {
        Ok(_) => None,
        Err(kube::Error::Api(status)) => Some((status.code, status.message.clone())),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_quota_of_two_refuses_the_third_run() {
    let bench = Bench::new().await.unwrap();
    let quota: ResourceQuota =
        object(json!({"metadata": {"name": "runs"}, "spec": {"hard": {COUNTED: "2"}}}));
    let quotas = bench.api::<ResourceQuota>();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    wait_until_async("the quota is counted", async || {
        let status = quotas.get("runs").await.unwrap().status.unwrap_or_default();
        status.used.unwrap_or_default().contains_key(COUNTED)
    })
    .await;
    let runs = bench.api::<AgentRun>();
    for name in ["one", "two"] {
        runs.create(&PostParams::default(), &run(name)).await.unwrap();
    }
    let why = refused(runs.create(&PostParams::default(), &run("three")).await);
    let (code, said) = why.expect("the third run was accepted");
    assert_eq!(code, 403, "{said}");
    assert!(said.contains("exceeded quota: runs") && said.contains(COUNTED), "{said}");
    runs.delete("one", &DeleteParams::default()).await.unwrap();
    wait_until_async("the place of a deleted run is free again", async || {
        runs.create(&PostParams::default(), &run("three")).await.is_ok()
    })
    .await;
}

/// A client of this user, who has this role of Kubernetes in the namespace.
async fn user(bench: &Bench, name: &str, role: &str) -> Client {
    let binding: RoleBinding = object(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
    }));
    bench.api::<RoleBinding>().create(&PostParams::default(), &binding).await.unwrap();
    let kubeconfig = Kubeconfig::read_from(bench.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    config.auth_info.impersonate = Some(name.to_owned());
    Client::try_from(config).unwrap()
}

#[tokio::test]
async fn kubernetes_own_roles_include_the_three_kinds() {
    let (bench, other) = (Bench::new().await.unwrap(), Bench::new().await.unwrap());
    let [viewer, editor, admin] = [
        user(&bench, "vera", "view").await,
        user(&bench, "ed", "edit").await,
        user(&bench, "ada", "admin").await,
    ];
    let runs = |client: &Client| Api::<AgentRun>::namespaced(client.clone(), &bench.namespace);
    let pools = |client: &Client| Api::<AgentVMPool>::namespaced(client.clone(), &bench.namespace);
    let pool: AgentVMPool = object(json!({
        "apiVersion": "agentvm.dev/v1alpha1", "kind": "AgentVMPool", "metadata": {"name": "p"},
        "spec": {"goldenSnapshotRef": {"name": "g"}},
    }));
    let post = PostParams::default();
    // The roles are added, and bindings are seen, a moment later.
    wait_until_async("the roles hold", async || {
        runs(&viewer).list(&ListParams::default()).await.is_ok()
            && pools(&viewer).list(&ListParams::default()).await.is_ok()
            && runs(&editor).create(&post, &run("eds")).await.is_ok()
    })
    .await;
    wait_until_async("the role of administrators holds", async || {
        pools(&admin).create(&post, &pool).await.is_ok()
    })
    .await;
    assert_eq!(
        refused(runs(&admin).create(&post, &run("adas")).await),
        None,
        "admin includes edit"
    );

    let is_forbidden = |why: Option<(u16, String)>| why.is_some_and(|(code, _)| code == 403);
    let elsewhere = Api::<AgentRun>::namespaced(editor.clone(), &other.namespace);
    assert!(is_forbidden(refused(elsewhere.create(&post, &run("eds")).await)));
    assert!(is_forbidden(refused(elsewhere.list(&ListParams::default()).await)));
    assert!(is_forbidden(refused(pools(&editor).delete("p", &DeleteParams::default()).await)));
    assert!(is_forbidden(refused(runs(&viewer).create(&post, &run("veras")).await)));
    assert!(is_forbidden(refused(runs(&viewer).delete("eds", &DeleteParams::default()).await)));
    let suspended = Patch::Merge(json!({"status": {"conditions": []}}));
    let done = runs(&editor).patch_status("eds", &PatchParams::default(), &suspended).await;
    assert!(is_forbidden(refused(done)), "the status is the operator's");
}
