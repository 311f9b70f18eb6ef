//! The committed files equal the output of the types. `UPDATE=1 cargo test -p agentvm-crds` writes
//! them again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as it should be"
)]

use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares a committed file with its expected text, or writes the file if `UPDATE` is set.
fn assert_committed(path: &str, wanted: &str) {
    let file = repository().join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, wanted).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == wanted,
        "{path} differs from crds/src: run UPDATE=1 cargo test -p agentvm-crds"
    );
}

#[test]
fn manifests_are_up_to_date() {
    let folders = [
        ("manifests/crds", agentvm_crds::manifests()),
        ("manifests/rbac", agentvm_crds::role_manifests()),
    ];
    for (folder, manifests) in folders {
        for (name, yaml) in &manifests {
            assert_committed(&format!("{folder}/{name}"), yaml);
        }
        let committed = std::fs::read_dir(repository().join(folder)).unwrap().count();
        assert_eq!(committed, manifests.len(), "{folder} holds a file that no type writes");
    }
}

#[test]
fn reference_is_up_to_date() {
    assert_committed("docs/api-reference.md", &agentvm_crds::reference());
}
