//! Helpers that the tests share: they find processes, and wait with a deadline.
// Each test file uses only a part. Clippy treats only functions with #[test] as tests.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

pub const DEADLINE: Duration = Duration::from_mins(1);

/// The processes whose command line names `data_dir`, by the name of their program.
pub fn children(data_dir: &Path) -> BTreeMap<String, u32> {
    let needle = data_dir.to_str().unwrap();
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let program = Path::new(line.split('\0').next().unwrap_or_default());
        if line.contains(needle) && pid != std::process::id() {
            found.insert(
                program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                pid,
            );
        }
    }
    found.retain(|name, _| name == "etcd" || name.starts_with("kube-"));
    found
}

/// The process group of a process: the third field after its name.
pub fn process_group(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(2).unwrap().parse().unwrap()
}

pub fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

pub fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        data: Some([("key".into(), "value".into())].into()),
        ..ConfigMap::default()
    }
}

pub async fn create_config_map(client: &kube::Client, namespace: &str, name: &str) {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &config_map(name)).await.unwrap();
}
