//! A store that is filled heals by itself.
// Clippy treats only functions with #[test] as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use agentvm_controlplane::{Config, ControlPlane};
use agentvm_testing::control_plane::config;
use agentvm_testing::wait_until_async;
use common::config_map;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

const QUOTA: u64 = 16 << 20;
/// More than the quota, in revisions of one object.
const WRITES: usize = 80;
const VALUE: usize = 512 * 1024;

/// Writes new values of 512 KiB until one is refused.
async fn fill(api: &Api<ConfigMap>) -> Option<String> {
    for round in 0..WRITES {
        let value = format!("{round}-").repeat(VALUE / 3).chars().take(VALUE).collect::<String>();
        let patch = Patch::Merge(json!({"data": {"key": value}}));
        if let Err(why) = api.patch("large", &PatchParams::default(), &patch).await {
            return Some(why.to_string());
        }
    }
    None
}

#[tokio::test]
async fn a_full_store_makes_room_and_takes_writes_again() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Config {
        store_quota_bytes: QUOTA,
        // Slow at first, so that the store is filled before anybody cleans up.
        store_pause: Duration::from_secs(5),
        ..config(folder.path()).unwrap()
    };
    let control_plane = ControlPlane::start(tiny).await.unwrap();
    let client = Client::try_from(control_plane.client_config()).unwrap();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    api.create(&PostParams::default(), &config_map("large")).await.unwrap();
    let mut refused = None;
    for _ in 0..10 {
        refused = fill(&api).await;
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("the store was never full");
    assert!(refused.contains("space exceeded"), "{refused}");

    let usage = control_plane.store_usage();
    wait_until_async("writes are taken again", async || {
        let patch = Patch::Merge(json!({"data": {"key": "small"}}));
        api.patch("large", &PatchParams::default(), &patch).await.is_ok()
    })
    .await;
    wait_until_async("the housekeeper says so", async || {
        let now = *usage.borrow();
        !now.full && now.file_bytes > 0 && now.file_bytes < QUOTA / 2 && !now.is_half_full()
    })
    .await;
    assert_eq!(usage.borrow().quota_bytes, QUOTA);
    control_plane.shutdown(Duration::from_secs(10)).await;
}
