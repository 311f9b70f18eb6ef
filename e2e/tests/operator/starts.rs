//! Starts where something is in the way.

use std::net::TcpListener;
use std::process::Command;

use agentvm_e2e::{Host, processes};
use agentvm_testing::{agentvm, guest_image};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use serde_json::json;

const USUAL_PORT: u16 = 6443;
/// The memory of standalone itself, idle, in the dev profile: far above the measured value, far
/// below harm.
const RESIDENT_KIB: u64 = 200 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_and_a_folder_in_use_are_told_apart_from_data_to_go_on_with() {
    let _turn = crate::turn().await;
    // If this fails, another process has the port, which serves as well.
    let _taken = TcpListener::bind(("127.0.0.1", USUAL_PORT));
    let host = Host::start(&[]).await.unwrap();
    let kubeconfig = Kubeconfig::read_from(host.dir.path().join("kubeconfig")).unwrap();
    let server = kubeconfig.clusters[0].cluster.as_ref().unwrap().server.clone().unwrap();
    assert!(!server.ends_with(&format!(":{USUAL_PORT}")), "{server}");

    let second = Command::new(agentvm().unwrap())
        .args(["standalone", "--data-dir"])
        .arg(host.dir.path())
        .arg("--image-dir")
        .arg(guest_image().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    let pid = host.standalone.pid().unwrap().as_raw_nonzero().to_string();
    assert!(
        !second.status.success() && said.contains(&pid) && said.contains("--data-dir"),
        "{said}"
    );

    let object =
        serde_json::from_value(json!({"metadata": {"name": "kept"}, "data": {"key": "value"}}))
            .unwrap();
    let uid =
        host.api::<ConfigMap>().create(&PostParams::default(), &object).await.unwrap().metadata.uid;
    report_memory(&host);
    let (dir, took) = host.stop().await.unwrap();
    println!("ended in {took:?}");

    let host = Host::start_on(dir, &[]).await.unwrap();
    assert_eq!(host.api::<ConfigMap>().get("kept").await.unwrap().metadata.uid, uid);
    host.stop().await.unwrap();
}

fn report_memory(host: &Host) {
    let own = host.standalone.resident_kib().unwrap();
    println!("standalone: {} MiB resident", own >> 10);
    for (pid, command) in processes(host.dir.path(), "") {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
        println!("{resident} {}", command.split(' ').next().unwrap());
    }
    assert!(own < RESIDENT_KIB, "{own} KiB");
}
