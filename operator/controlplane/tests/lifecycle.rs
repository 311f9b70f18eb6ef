//! Start, stop and restart of the real programs; children that die; a parent that dies.
// Clippy treats only functions with #[test] as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

use agentvm_controlplane::{Config, ControlPlane, Happened};
use agentvm_testing::{control_plane, wait_until_async};
use common::{children, create_config_map, kill, process_group};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

const SHUTDOWN: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_finds_its_data_and_its_ports() {
    let dir = tempfile::tempdir().unwrap();
    let config = control_plane::config(dir.path()).unwrap();

    let began = Instant::now();
    let first = ControlPlane::start(config.clone()).await.unwrap();
    println!("first start to ready: {:?}", began.elapsed());
    let kubeconfig = first.kubeconfig().to_owned();
    let path = first.kubeconfig_path().to_owned();
    assert_eq!(path, dir.path().join("kubeconfig"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&path).unwrap(), kubeconfig);
    create_config_map(&kube::Client::try_from(first.client_config()).unwrap(), "default", "kept")
        .await;

    let began = Instant::now();
    first.shutdown(SHUTDOWN).await;
    println!("shutdown: {:?}", began.elapsed());
    assert!(began.elapsed() < SHUTDOWN);
    assert!(children(dir.path()).is_empty(), "{:?}", children(dir.path()));

    let began = Instant::now();
    let second = ControlPlane::start(config).await.unwrap();
    println!("second start to ready: {:?}", began.elapsed());
    assert_eq!(second.kubeconfig(), kubeconfig, "copies of the kubeconfig keep working");
    let api: Api<ConfigMap> =
        Api::default_namespaced(kube::Client::try_from(second.client_config()).unwrap());
    assert_eq!(api.get("kept").await.unwrap().data.unwrap()["key"], "value");
    second.shutdown(SHUTDOWN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_gets_another() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config =
        Config { preferred_port: Some(port), ..control_plane::config(dir.path()).unwrap() };
    let control_plane = ControlPlane::start(config).await.unwrap();
    let url = control_plane.client_config().cluster_url;
    assert_eq!(url.host(), Some("127.0.0.1"));
    assert_ne!(url.port_u16(), Some(port));
    control_plane.shutdown(SHUTDOWN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_is_killed_comes_back_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let control_plane =
        ControlPlane::start(control_plane::config(dir.path()).unwrap()).await.unwrap();
    let client = kube::Client::try_from(control_plane.client_config()).unwrap();
    create_config_map(&client, "default", "kept").await;
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    wait_until_async("all three run", async || children(dir.path()).len() == 3).await;

    let mut events = control_plane.events();
    for (name, pid) in children(dir.path()) {
        assert_eq!(process_group(pid), pid, "a terminal's Ctrl-C must not reach {name}");
        kill(pid);
        let died = events.recv().await.unwrap();
        assert_eq!(died.component.program(), name);
        assert!(
            matches!(&died.happened, Happened::Died { how, .. } if how.contains("signal: 9")),
            "{died:?}"
        );
        let again = events.recv().await.unwrap();
        assert!(matches!(again.happened, Happened::Started { restarts: 1, .. }), "{again:?}");
    }
    wait_until_async("the API answers again", async || api.get("kept").await.is_ok()).await;
    control_plane.shutdown(SHUTDOWN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_control_plane_leaves_no_child() {
    let dir = tempfile::tempdir().unwrap();
    drop(ControlPlane::start(control_plane::config(dir.path()).unwrap()).await.unwrap());
    wait_until_async("its children end", async || children(dir.path()).is_empty()).await;
}

#[tokio::test]
async fn a_parent_that_is_killed_leaves_no_orphan_and_a_usable_folder() {
    let dir = tempfile::tempdir().unwrap();
    let mut parent = Command::new(env!("CARGO_BIN_EXE_controlplane-for-tests"))
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(parent.stdout.take().unwrap()), &mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    wait_until_async("all three run", async || children(dir.path()).len() == 3).await;

    parent.kill().unwrap();
    parent.wait().unwrap();
    let began = Instant::now();
    wait_until_async("no orphan is left", async || children(dir.path()).is_empty()).await;
    println!("orphans gone after {:?}", began.elapsed());

    let next = ControlPlane::start(control_plane::config(dir.path()).unwrap()).await.unwrap();
    next.shutdown(SHUTDOWN).await;
}
