//! The place that wins, and the message when no place is complete.

use std::fs::Permissions;

use super::*;

const ALL: [&str; 3] = ["etcd", "kube-apiserver", "kube-controller-manager"];

fn put(folder: &Path, names: &[&str]) {
    fs::create_dir_all(folder).unwrap();
    for name in names {
        fs::write(folder.join(name), "").unwrap();
        fs::set_permissions(folder.join(name), Permissions::from_mode(0o755)).unwrap();
    }
}

fn places(root: &Path) -> Places {
    Places {
        dir: None,
        kubebuilder_assets: Some(root.join("assets")),
        path: env::join_paths([root.join("bin"), root.join("sbin")]).unwrap(),
        cache: root.join("cache"),
    }
}

#[test]
fn an_incomplete_place_is_passed_over() {
    let root = tempfile::tempdir().unwrap();
    put(&root.path().join("assets"), &ALL[..2]);
    put(&root.path().join("bin"), &ALL[..1]);
    put(&root.path().join("sbin"), &ALL[1..]);
    let found = Binaries::find_in(&places(root.path())).unwrap();
    assert_eq!(found.etcd, root.path().join("bin/etcd"));
    assert_eq!(found.api_server, root.path().join("sbin/kube-apiserver"));
    assert_eq!(found.kubectl, None);
}

#[test]
fn a_named_folder_is_the_only_one_looked_at() {
    let root = tempfile::tempdir().unwrap();
    put(&root.path().join("assets"), &ALL);
    let named = root.path().join("named");
    let error =
        Binaries::find_in(&Places { dir: Some(named.clone()), ..places(root.path()) }).unwrap_err();
    let said = error.to_string();
    assert!(said.contains(&format!("--control-plane-dir {}: no etcd", named.display())), "{said}");
    assert!(!said.contains("KUBEBUILDER_ASSETS"), "{said}");
}

#[test]
fn the_cache_prefers_the_build_of_these_versions_and_ignores_unfinished_ones() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    put(&cache.join(build_key()), &ALL);
    put(&cache.join("newer"), &ALL);
    put(&cache.join(".building-x"), &ALL);
    let found = Binaries::find_in(&places(root.path())).unwrap();
    assert_eq!(found.etcd, cache.join(build_key()).join("etcd"));

    fs::remove_dir_all(cache.join(build_key())).unwrap();
    let found = Binaries::find_in(&places(root.path())).unwrap();
    assert_eq!(found.etcd, cache.join("newer/etcd"));

    fs::remove_dir_all(cache.join("newer")).unwrap();
    assert!(Binaries::find_in(&places(root.path())).is_err());
}

#[test]
fn a_file_that_cannot_be_executed_is_not_a_program() {
    let root = tempfile::tempdir().unwrap();
    let assets = root.path().join("assets");
    put(&assets, &ALL);
    fs::set_permissions(assets.join("etcd"), Permissions::from_mode(0o644)).unwrap();
    let said = Binaries::find_in(&places(root.path())).unwrap_err().to_string();
    assert!(said.contains("assets: no etcd\n"), "{said}");
    for word in
        ["PATH: no etcd, no kube-apiserver", "cache/", "make controlplane", "--control-plane-dir"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
}
