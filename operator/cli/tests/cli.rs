//! The binary from a person's view: exit codes, messages and their streams, and answers that
//! programs can read.
// Clippy treats only functions with #[test] as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};

use agentvm_operator::node::{id, lock::FolderLock};
use serde_json::Value;

/// Runs `agentvm` without this machine's configuration, only with the configuration of the test.
fn agentvm(home: &Path, environment: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentvm"));
    command.args(args).env("HOME", home).envs(environment.iter().copied());
    for variable in [
        "LIBVIRT_DEFAULT_URI",
        "AGENT_VM_NETWORK_MODE",
        "AGENT_VM_POOL_MIN_SIZE",
        "AGENT_VM_POOL_MAX_SIZE",
    ] {
        if !environment.iter().any(|(name, _)| *name == variable) {
            command.env_remove(variable);
        }
    }
    command.env_remove("AGENT_VM_EXEC_TIMEOUT").output().unwrap()
}

fn home_with(config: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".config/agent-vm");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.yaml"), config).unwrap();
    home
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {output:?}"))
}

#[test]
fn a_wrong_configuration_ends_with_2_and_says_where_and_what_was_meant() {
    let home = home_with("pool:\n  min_sise: 3\n  max_size: 0\n");
    let output = agentvm(home.path(), &[], &["config", "show"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let said: Vec<&str> = text(&output.stderr).lines().collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with("error: ") && said[0].contains("config.yaml:2:13: pool.min_sise"),
        "{said:?}"
    );
    assert!(said[0].ends_with("did you mean pool.min_size?"), "{said:?}");
    assert!(
        said[1].contains(
            "config.yaml:3:13: pool.max_size: \"0\" is not a whole number from 1 to 1000"
        ),
        "{said:?}"
    );
}

#[test]
fn every_subcommand_that_reads_the_configuration_refuses_a_wrong_one() {
    let home = tempfile::tempdir().unwrap();
    for args in [&["doctor"][..], &["version"], &["config", "show"]] {
        let output = agentvm(home.path(), &[("AGENT_VM_NETWORK_MODE", "open")], args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            text(&output.stderr)
                .contains("environment AGENT_VM_NETWORK_MODE: vm.network_mode: \"open\""),
            "{args:?}"
        );
    }
}

#[test]
fn the_file_that_config_names_must_exist_and_replaces_the_users() {
    let home = home_with("pool: {min_size: 3}\n");
    let missing = agentvm(home.path(), &[], &["config", "show", "--config", "/nonexistent.yaml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        text(&missing.stderr)
            .contains("/nonexistent.yaml: there is no such file; correct --config")
    );

    let other = home.path().join("other.yaml");
    std::fs::write(&other, "# nothing\n").unwrap();
    let shown = json(&agentvm(
        home.path(),
        &[],
        &["config", "show", "-o", "json", "--config", other.to_str().unwrap()],
    ));
    assert_eq!(row(&shown, "pool.min_size")["origin"]["kind"], "default");
}

#[test]
fn config_show_names_the_origin_of_each_value() {
    let home = home_with("pool:\n  min_size: 3\n  max_size: 7\n");
    let args = ["config", "show", "--output", "json", "--libvirt-uri", "qemu:///session"];
    let shown = json(&agentvm(home.path(), &[("AGENT_VM_POOL_MIN_SIZE", "2")], &args));
    assert_eq!(row(&shown, "pool.min_size")["value"], 2);
    assert_eq!(row(&shown, "pool.min_size")["origin"]["variable"], "AGENT_VM_POOL_MIN_SIZE");
    assert_eq!(row(&shown, "pool.max_size")["value"], 7);
    assert_eq!(row(&shown, "pool.max_size")["origin"]["line"], 3);
    assert_eq!(row(&shown, "libvirt.uri")["origin"]["flag"], "--libvirt-uri");
    assert_eq!(row(&shown, "vm.network_mode")["origin"]["kind"], "default");

    let table = agentvm(home.path(), &[], &["config", "show"]);
    let line = text(&table.stdout).lines().find(|line| line.starts_with("pool.max_size")).unwrap();
    assert!(line.contains('7') && line.ends_with("config.yaml:3:13"), "{line}");
}

fn row<'a>(shown: &'a Value, key: &str) -> &'a Value {
    shown["settings"].as_array().unwrap().iter().find(|row| row["key"] == key).unwrap()
}

#[test]
fn doctor_answers_in_json_and_its_exit_code_is_its_verdict() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().to_str().unwrap();
    let output = agentvm(home.path(), &[], &["doctor", "--output", "json", "--state-dir", state]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(i32::from(report["canRun"] == false)));
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.len() >= 19, "{findings:?}");
    let errors = findings.iter().filter(|finding| finding["level"] == "error").count();
    assert_eq!(report["canRun"] == true, errors == 0);
    assert_eq!(report["version"], 1);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "it left something behind");
}

#[test]
fn doctor_ends_with_1_and_says_how_to_mend_where_there_is_no_image() {
    let home = tempfile::tempdir().unwrap();
    let output =
        agentvm(home.path(), &[], &["doctor", "--image-dir", home.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(said.contains("error    Guest image") && said.contains("mend  make image"), "{said}");
    assert!(said.contains("can't run agentvm yet"), "{said}");
    assert!(!said.contains('\x1b'), "no colour into a pipe");
}

#[test]
fn version_names_every_component() {
    let home = tempfile::tempdir().unwrap();
    let output = agentvm(home.path(), &[], &["version", "--output", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let shown = json(&output);
    let ids: Vec<&str> =
        shown["components"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap()).collect();
    let all = [
        "agentvm",
        "qemu",
        "libvirt",
        "libvirtClient",
        "kernel",
        "kubeApiserver",
        "etcd",
        "guestImage",
        "guestAgent",
    ];
    assert_eq!(ids, all);
    assert!(
        shown["components"][0]["version"].as_str().unwrap().starts_with(env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn crds_are_three_documents_of_yaml() {
    let home = tempfile::tempdir().unwrap();
    let output = agentvm(home.path(), &[], &["crds"]);
    assert_eq!(output.status.code(), Some(0));
    let documents: Vec<Value> = serde_saphyr::from_multiple(text(&output.stdout)).unwrap();
    let kinds: Vec<&str> =
        documents.iter().map(|crd| crd["spec"]["names"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["GoldenSnapshot", "AgentVMPool", "AgentRun"]);
}

#[test]
fn wrong_usage_ends_with_2_and_help_with_0() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(agentvm(home.path(), &[], &["no-such-command"]).status.code(), Some(2));
    let level = agentvm(home.path(), &[], &["crds", "--log-level", "loud"]);
    assert_eq!(level.status.code(), Some(2));
    assert!(text(&level.stderr).starts_with("error: --log-level loud"));
    let help = agentvm(home.path(), &[], &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("Exit codes: 0 done, 1 failed, 2 wrong usage"));
}

/// No API server answers there; the operator must not come so far.
const KUBECONFIG: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    "users": [{"name": "u", "user": {}}]}"#;

fn operator_on(folder: &Path) -> Output {
    let home = tempfile::tempdir().unwrap();
    let kubeconfig = home.path().join("kubeconfig");
    std::fs::write(&kubeconfig, KUBECONFIG).unwrap();
    let (kubeconfig, folder) = (kubeconfig.to_str().unwrap(), folder.to_str().unwrap());
    agentvm(home.path(), &[], &["operator", "--kubeconfig", kubeconfig, "--state-dir", folder])
}

#[test]
fn a_second_operator_on_one_folder_does_not_start_and_says_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = FolderLock::acquire(folder.path()).unwrap();
    let node = id::load_or_draw(folder.path()).unwrap();
    let second = operator_on(folder.path());
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let (said, pid) = (text(&second.stderr), std::process::id().to_string());
    for word in ["is in use by process", &pid, node.as_str(), "--state-dir"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn an_operator_does_not_start_in_a_folder_that_others_can_change() {
    use std::os::unix::fs::PermissionsExt;
    let above = tempfile::tempdir().unwrap();
    std::fs::set_permissions(above.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let output = operator_on(&above.path().join("state"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let mend = format!("chmod go-w {}", above.path().display());
    assert!(text(&output.stderr).contains(&mend), "{output:?}");
    assert!(!above.path().join("state").exists());
}
