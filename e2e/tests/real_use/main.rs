//! The purpose of the machines' network: a golden whose setup installs packages from registries,
//! and a run that clones over SSH with a key from a Secret. The internet of both is a namespace of
//! this host.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as it should be"
)]

use std::path::Path;
use std::process::Command;

use agentvm_crds::{AgentVMPool, GoldenSnapshot};
use agentvm_e2e::{Host, holding};
use agentvm_testing::networks::internet::offers::{
    GitServer, IN_REPOSITORY, INSTALL, INSTALL_OTHERS, INSTALLED, REGISTRIES, REPOSITORY,
};
use agentvm_testing::networks::internet::{DNS, Internet};
use agentvm_testing::wait_for;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::json;

const CLONE: &str = "cd /workspace/secrets && GIT_SSH_COMMAND='ssh -i /workspace/secrets/key -o \
    UserKnownHostsFile=/workspace/secrets/known' \
                     git clone --quiet \"$0\" /tmp/clone && cat /tmp/clone/file && echo && sync";

/// A repository of root's, in the golden.
const INIT: &str = "git init --quiet /srv/golden && cd /srv/golden && git -c user.name=a -c \
    user.email=a@b commit --quiet --allow-empty --message 'of the setup'";
const LOG: &str = "cd /srv/golden && git status --short && git log --format=%s";

#[tokio::test(flavor = "multi_thread")]
async fn packages_for_the_golden_and_a_repository_for_the_run() {
    let internet = Internet::new();
    internet.offer_packages();
    let server = GitServer::new(&internet);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    std::fs::write(&config, format!("network: {{resolvers: {DNS}}}\n")).unwrap();
    let host = Host::start(&["--config", config.to_str().unwrap()]).await.unwrap();

    set_up(&host, &internet).await;

    let said = host.run(json!({"command": ["sh", "-c", INSTALL[2]]})).await.unwrap();
    assert_eq!(said.stdout().trim(), INSTALLED, "{said}");

    let env: Vec<_> =
        REGISTRIES.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    for user in ["Agent", "Root"] {
        let command = ["bash", "-c", &format!("{INSTALL_OTHERS} && {LOG}")];
        let spec = json!({"runAs": user, "command": command, "env": env});
        let run = host.run(spec).await.unwrap();
        assert_eq!(run.stdout().trim(), format!("{INSTALLED}\nof the setup"), "{user}: {run}");
    }

    let secret = json!({"metadata": {"name": "deploy"}, "stringData": {"key": server.key(),
        "known": server.host()}});
    host.api::<Secret>()
        .create(&PostParams::default(), &serde_json::from_value(secret).unwrap())
        .await
        .unwrap();
    let file = |name: &str| {
        let from = json!({"secretKeyRef": {"name": "deploy", "key": name}});
        json!({"path": name, "place": "Secrets", "mode": 0o400, "contentFrom": from})
    };
    let command = json!({"command": ["bash", "-c", CLONE, REPOSITORY], "files": [file("key"),
        file("known")]});
    let run = host.run(command).await.unwrap();
    assert_eq!((run.reason(), run.stdout().trim()), ("Completed", IN_REPOSITORY), "{run}");
    let key = server.key();
    assert_eq!(
        holding(&host.dir, key.lines().nth(2).unwrap()).unwrap(),
        "",
        "these files have a line of the key in them"
    );
    assert_eq!(internet.escaped(), 0);
    host.stop().await.unwrap();
}

/// A golden that installs packages, and a pool of it.
async fn set_up(host: &Host, internet: &Internet) {
    let steps: Vec<_> = INSTALL
        .into_iter()
        .chain([INIT])
        .map(|step| json!({"command": ["sh", "-c", step], "timeoutSeconds": 120}))
        .collect();
    let golden = json!({
        "source": {"builtin": "Debian"},
        "resources": {"profile": "Custom", "custom": {"vcpus": 1, "memoryMiB": 512, "diskGiB": 4}},
        "setup": {"steps": steps},
    });
    let golden = GoldenSnapshot::new("default", serde_json::from_value(golden).unwrap());
    host.api().create(&PostParams::default(), &golden).await.unwrap();
    let pool = json!({
        "goldenSnapshotRef": {"name": "default"},
        "warm": {"min": 1, "max": 1},
        "network": {"mode": "NatFiltered", "resolver": DNS.to_string()},
    });
    let pool = AgentVMPool::new("default", serde_json::from_value(pool).unwrap());
    host.api().create(&PostParams::default(), &pool).await.unwrap();
    // The template boots for seconds before its setup uses the network.
    let (bridge, subnet) = plugged(host.dir.path());
    internet.attach(&bridge, &subnet);
    host.warm().await.unwrap();
}

/// The bridge of the installation's first machine, and its subnet.
fn plugged(data_dir: &Path) -> (String, String) {
    let below = format!("{}/", data_dir.display());
    let bridge = wait_for("a machine is plugged into a bridge", || {
        let domains = std::fs::read_dir("/run/libvirt/qemu").into_iter().flatten().flatten();
        let texts = domains.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        texts.filter(|text| text.contains(&below)).find_map(|text| {
            let (_, rest) = text.split_once("bridge='")?;
            Some(rest.split('\'').next()?.to_owned())
        })
    });
    let routes = Command::new("ip").args(["-4", "route", "show", "dev", &bridge]).output().unwrap();
    let subnet = String::from_utf8(routes.stdout).unwrap();
    (bridge, subnet.split(' ').next().unwrap().to_owned())
}
