//! What is said when a start fails, and that nothing is left running then.
// Clippy takes only functions with #[test] for tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentvm_controlplane::{Config, ControlPlane, StartError, test_support};

fn program(path: &Path, content: &str) -> PathBuf {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}

async fn failure(config: Config) -> StartError {
    ControlPlane::start(config).await.expect_err("this cannot start")
}

#[tokio::test]
async fn a_data_folder_that_is_a_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = failure(test_support::config(&file).unwrap()).await;
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    let cause = error.source().unwrap().to_string();
    assert!(cause.contains("cannot write") && cause.contains("name a data folder"), "{cause}");
}

#[tokio::test]
async fn a_program_for_another_machine_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = test_support::config(dir.path()).unwrap();
    config.binaries.etcd = program(&dir.path().join("etcd-of-another-world"), "\x7fELF nonsense");
    let error = failure(config).await;
    let said = error.source().unwrap().to_string();
    for word in ["etcd-of-another-world", "isn't a program for this machine", "make controlplane"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(common::children(dir.path()).is_empty());
}

#[tokio::test]
async fn a_child_that_dies_at_its_start_shows_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = test_support::config(dir.path()).unwrap();
    config.binaries.api_server =
        program(&dir.path().join("broken"), "#!/bin/sh\necho 'the moon is in the wrong phase' >&2\nexit 3\n");
    let said = failure(config).await.to_string();
    for word in ["kube-apiserver ended at its start", "exit status: 3", "wrong phase", "logs/kube-apiserver.log"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(common::children(dir.path()).is_empty(), "etcd ended too");
}

#[tokio::test]
async fn a_start_that_takes_too_long_says_what_it_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = test_support::config(dir.path()).unwrap();
    config.binaries.api_server = program(&dir.path().join("sleeper"), "#!/bin/sh\nexec sleep 600\n");
    config.start_timeout = Duration::from_secs(1);
    let said = failure(config).await.to_string();
    for word in ["wasn't ready after 1 s", "/readyz", "logs"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}
