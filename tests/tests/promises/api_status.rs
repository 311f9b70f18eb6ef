//! The API server accepts every status that the operator may write, up to its own limit: the bounds
//! in the schema are wider.

use agentvm_crds::{
    AgentRun, AgentRunStatus, AgentVMPool, Attempt, Condition, ConditionStatus, GoldenNode,
    GoldenNodeState, GoldenSnapshot, MAX_STATUS_BYTES, OutputFile, OutputStatus, PoolLimits,
    PoolNode, ResetCheck, ResetStatus,
};
use agentvm_tests::Bench;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// The bound of the core: `agentvm_core::status::MAX_MESSAGE`.
const MESSAGE: usize = agentvm_core::status::MAX_MESSAGE;
const TAIL: usize = 16 * 1024;

async fn write_status<K>(bench: &Bench, kind: &str, spec: Value, status: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = bench.api();
    let object = json!({"apiVersion": "agentvm.dev/v1alpha1", "kind": kind,
        "metadata": {"name": "a"}, "spec": spec});
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    let size = status.to_string().len();
    assert!(
        size <= MAX_STATUS_BYTES && size > MAX_STATUS_BYTES / 3,
        "a full status, not {size} bytes"
    );
    api.patch_status("a", &PatchParams::default(), &Patch::Merge(json!({ "status": status })))
        .await
        .unwrap();
    let read = serde_json::to_value(api.get("a").await.unwrap()).unwrap();
    assert_eq!(read["status"], status, "nothing is pruned or changed");
}

fn conditions(types: &[&str]) -> Vec<Condition> {
    types
        .iter()
        .map(|type_| Condition {
            type_: (*type_).to_owned(),
            status: ConditionStatus::Unknown,
            observed_generation: Some(i64::MAX),
            last_transition_time: "2026-11-20T15:04:05.123-05:00".to_owned(),
            reason: "HypervisorUnavailable".to_owned(),
            message: "m".repeat(MESSAGE),
        })
        .collect()
}

#[tokio::test]
async fn of_a_run() {
    let bench = Bench::new().await.unwrap();
    let time = || "2026-11-20T15:04:05.123-05:00".to_owned();
    let attempt = |number| Attempt {
        number,
        node_name: "n".repeat(253),
        node_id: Some("i".repeat(36)),
        vm_name: "v".repeat(253),
        nonce: "0".repeat(32),
        start_time: time(),
        end_time: Some(time()),
        reason: Some("DeadlineExceeded".to_owned()),
        exit_code: Some(-1),
    };
    let file = |n| OutputFile {
        path: format!("{n}{}", "ä".repeat(100)),
        size_bytes: i64::MAX,
        sha256: "f".repeat(64),
    };
    let status = AgentRunStatus {
        observed_generation: Some(2),
        conditions: conditions(&["Accepted", "Scheduled", "Succeeded"]),
        completion_time: Some(time()),
        node_name: Some("n".repeat(253)),
        vm_name: Some("v".repeat(253)),
        exit_code: Some(137),
        signal: Some(9),
        stdout: Some("\u{fffd}".repeat(TAIL / 3)),
        stdout_truncated: Some(true),
        stderr: Some("x".repeat(TAIL)),
        stderr_truncated: Some(true),
        duration_seconds: Some(3.25),
        output: Some(OutputStatus {
            files: (0..200).map(file).collect(),
            total_files: 1_000_000,
            total_bytes: i64::MAX,
            location: "/".repeat(200),
            skipped: vec!["s".repeat(300); 20],
        }),
        reset: Some(ResetStatus {
            tier: "InPlace".to_owned(),
            millis: i64::MAX,
            checks: vec![ResetCheck { name: "c".repeat(64), result: "r".repeat(256) }; 8],
        }),
        network: Some(agentvm_crds::RunNetwork {
            allowed: i64::MAX,
            denied: i64::MAX,
            top_denied: vec![
                agentvm_crds::DeniedFlow {
                    destination: "255.255.255.255".to_owned(),
                    port: Some(65_535),
                    protocol: "p".repeat(64),
                    count: i64::MAX,
                };
                16
            ],
        }),
        timings: Some(agentvm_crds::Timings::default()),
        unstarted_claims: Some(i32::MAX),
        attempts: (1..=20).map(attempt).collect(),
    };
    write_status::<AgentRun>(
        &bench,
        "AgentRun",
        json!({"command": ["true"]}),
        serde_json::to_value(status).unwrap(),
    )
    .await;
}

#[tokio::test]
async fn of_a_pool_on_a_hundred_nodes() {
    let bench = Bench::new().await.unwrap();
    let node = |n| PoolNode {
        name: format!("node-{n}"),
        observed_generation: 1,
        min: 1,
        max: 2,
        warm: 1,
        claimed: 0,
        creating: 1,
        resetting: 1,
        quarantined: 1,
        total: 4,
        accelerator: "TCG".to_owned(),
        tier: "Fresh".to_owned(),
        tier_message: Some("t".repeat(160)),
        reset_trouble: Some("r".repeat(160)),
        charged_time: Some("2026-11-20T15:04:05.123-05:00".to_owned()),
        network_generation: Some(i64::MAX),
        limits: Some(PoolLimits {
            cpu_quota_percent: Some(6400),
            disk_bytes_per_second: Some(1 << 40),
            network_bytes_per_second: Some(4_000_000_000),
            packets_per_second: Some(1_000_000),
            connections: Some(65_536),
            processes: 1_048_576,
        }),
        unshared_memory_bytes: Some(1 << 30),
        reason: "HypervisorUnavailable".to_owned(),
        message: "m".repeat(320),
    };
    let status = json!({
        "observedGeneration": 1, "warm": 100, "claimed": 0, "creating": 100, "resetting": 100,
            "quarantined": 100, "total": 400,
        "nodes": (0..100).map(node).collect::<Vec<_>>(),
        "queue": {
            "decayTime": "2026-11-20T15:04:05.123-05:00",
            "usage": (10..42)
                .map(|n| format!("{n}{}", "k".repeat(61)))
                .map(|key| json!({"key": key, "machineSeconds": i64::MAX}))
                .collect::<Vec<_>>(),
        },
        "conditions": conditions(&["Ready", "Progressing", "Degraded", "Reconciling", "Stalled"]),
    });
    write_status::<AgentVMPool>(
        &bench,
        "AgentVMPool",
        json!({"goldenSnapshotRef": {"name": "a"}}),
        status,
    )
    .await;
}

#[tokio::test]
async fn of_a_golden_snapshot_on_fifty_nodes_in_two_layouts() {
    let bench = Bench::new().await.unwrap();
    let node = |n: u32| GoldenNode {
        name: format!("node-{}", n / 2),
        layout: ["Isolated", "Networked"][n as usize % 2].to_owned(),
        state: GoldenNodeState::Failed,
        digest: Some(format!("sha256:{}", "0".repeat(64))),
        key: Some("k".repeat(100)),
        memory_bytes: Some(i64::MAX),
        boot_seconds: Some(8.5),
        captured_time: Some("2026-11-20T15:04:05.123-05:00".to_owned()),
        message: Some("m".repeat(700)),
    };
    let status = json!({
        "observedGeneration": 1, "digest": format!("sha256:{}", "0".repeat(64)),
        "nodes": (0..100).map(node).collect::<Vec<_>>(),
        "conditions": conditions(&["Ready", "Reconciling", "Stalled"]),
    });
    write_status::<GoldenSnapshot>(
        &bench,
        "GoldenSnapshot",
        json!({"source": {"builtin": "Debian"}}),
        status,
    )
    .await;
}
