//! A failed start gives a clear message and leaves no process behind.
// Clippy treats only functions with #[test] as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentvm_controlplane::{Config, ControlPlane, StartError};
use agentvm_testing::control_plane;

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
    let error = failure(control_plane::config(&file).unwrap()).await;
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    let cause = error.source().unwrap().to_string();
    assert!(cause.contains("cannot write") && cause.contains("name a data folder"), "{cause}");
}

#[tokio::test]
async fn a_program_for_another_machine_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = control_plane::config(dir.path()).unwrap();
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
    let mut config = control_plane::config(dir.path()).unwrap();
    config.binaries.api_server = program(
        &dir.path().join("broken"),
        "#!/bin/sh\necho 'the moon is in the wrong phase' >&2\nexit 3\n",
    );
    let said = failure(config).await.to_string();
    for word in [
        "kube-apiserver ended at its start",
        "exit status: 3",
        "wrong phase",
        "logs/kube-apiserver.log",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(common::children(dir.path()).is_empty(), "etcd ended too");
}

#[tokio::test]
async fn a_start_that_takes_too_long_says_what_it_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = control_plane::config(dir.path()).unwrap();
    config.binaries.api_server =
        program(&dir.path().join("sleeper"), "#!/bin/sh\nexec sleep 600\n");
    config.start_timeout = Duration::from_secs(1);
    let said = failure(config).await.to_string();
    for word in ["wasn't ready after 1 s", "/readyz", "logs"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

/// Another program takes the port after our check: a script gives the first start of each program a
/// port that is in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_in_the_last_moment_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port();
    let sabotaged = |name: &str, real: &Path, flag: &str| {
        let once = dir.path().join(format!("{name}-once"));
        let script = format!(
            "#!/bin/sh\nif mkdir {once} 2>/dev/null; then\n  for arg; do shift; set -- \"$@\" \
             \"$(echo \"$arg\" | sed 's#^\\({flag}.*[:=]\\)[0-9]*$#\\1{taken}#')\"; done\nfi\nexec \
             {real} \"$@\"\n",
            once = once.display(),
            real = real.display(),
        );
        program(&dir.path().join(name), &script)
    };
    let mut config = control_plane::config(&dir.path().join("data")).unwrap();
    config.binaries.etcd = sabotaged("first-etcd", &config.binaries.etcd, "--listen-client-urls");
    config.binaries.api_server =
        sabotaged("first-api-server", &config.binaries.api_server, "--secure-port");
    let control_plane = ControlPlane::start(config).await.unwrap();
    for name in ["first-etcd-once", "first-api-server-once"] {
        assert!(dir.path().join(name).exists(), "{name}");
    }
    let log = fs::read_to_string(dir.path().join("data/logs/etcd.log")).unwrap();
    assert!(log.contains("address already in use"), "{log}");
    control_plane.shutdown(Duration::from_secs(15)).await;
}
