//! The behaviour of the API, and the clients that it refuses. All tests here share one control
//! plane.
// Clippy treats only functions with #[test] as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use agentvm_testing::control_plane::shared;
use agentvm_testing::wait_until_async;
use common::{config_map, create_config_map};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rustix::fs::Access;

async fn namespace(client: &Client, name: &str) {
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}

async fn administrator() -> Config {
    let kubeconfig = Kubeconfig::read_from(shared().await.unwrap().kubeconfig_path()).unwrap();
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
}

#[tokio::test]
async fn whoever_shows_no_certificate_is_refused() {
    let mut config = administrator().await;
    config.auth_info = kube::config::AuthInfo::default();
    let client = Client::try_from(config).unwrap();
    for path in ["/readyz", "/version", "/api"] {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        match client.request_text(request).await {
            Err(kube::Error::Api(status)) => assert_eq!(status.code, 401, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_administrator_of_the_api_cannot_reach_the_store() {
    let data_dir = shared().await.unwrap().kubeconfig_path().parent().unwrap();
    let ports: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data_dir.join("ports.json")).unwrap()).unwrap();
    let mut config = administrator().await;
    config.cluster_url = format!("https://127.0.0.1:{}", ports["etcd"]).parse().unwrap();
    config.accept_invalid_certs = true; // the store itself must refuse
    let request = http::Request::get("/version").body(Vec::new()).unwrap();
    let error = Client::try_from(config).unwrap().request_text(request).await.unwrap_err();
    let said = format!("{error:?}");
    assert!(said.contains("AlertReceived"), "{said}");
}

#[tokio::test]
async fn a_deleted_namespace_is_emptied_and_goes() {
    let client = shared().await.unwrap().client().unwrap();
    namespace(&client, "to-be-deleted").await;
    create_config_map(&client, "to-be-deleted", "content").await;
    let namespaces = Api::<Namespace>::all(client);
    namespaces.delete("to-be-deleted", &DeleteParams::default()).await.unwrap();
    wait_until_async("the namespace goes", async || {
        namespaces.get_opt("to-be-deleted").await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn what_a_deleted_object_owned_is_collected() {
    let client = shared().await.unwrap().client().unwrap();
    namespace(&client, "collected").await;
    let api: Api<ConfigMap> = Api::namespaced(client, "collected");
    let owner = api.create(&PostParams::default(), &config_map("owner")).await.unwrap();
    let mut dependent = config_map("owned");
    dependent.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: "owner".into(),
        uid: owner.metadata.uid.unwrap(),
        ..OwnerReference::default()
    }]);
    api.create(&PostParams::default(), &dependent).await.unwrap();
    api.delete("owner", &DeleteParams::background()).await.unwrap();
    wait_until_async("the owned object goes", async || {
        api.get_opt("owned").await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn everything_listens_on_loopback_only() {
    let data_dir = shared().await.unwrap().kubeconfig_path().parent().unwrap();
    let children = common::children(data_dir);
    for name in ["etcd", "kube-apiserver"] {
        let addresses = listening(children[name]);
        assert!(!addresses.is_empty(), "{name}");
        for address in addresses {
            assert_eq!(&address[..8], "0100007F", "{name} listens on {address}");
        }
    }
}

/// The hexadecimal addresses on which a process listens.
fn listening(pid: u32) -> Vec<String> {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|fd| {
            std::fs::read_link(fd.path())
                .ok()?
                .to_str()?
                .strip_prefix("socket:[")
                .map(str::to_owned)
        })
        .map(|inode| inode.trim_end_matches(']').to_owned())
        .collect();
    let mut addresses = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields[3] == "0A" && sockets.iter().any(|inode| inode == fields[9]) {
                addresses.push(fields[1].to_owned());
            }
        }
    }
    addresses
}

#[tokio::test]
async fn all_tests_of_a_process_share_one_control_plane() {
    let (one, other) = tokio::join!(shared(), shared());
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(std::ptr::eq(one, other));
    let path: &Path = one.kubeconfig_path();
    assert!(rustix::fs::access(path, Access::READ_OK).is_ok());
}
