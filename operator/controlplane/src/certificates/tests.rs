//! Certificates are kept across starts, renewed in time, and private.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;

const YEAR: Duration = Duration::from_hours(365 * 24);

#[test]
fn a_second_start_uses_the_same_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let first = Pki::load_or_issue(dir.path(), now).unwrap();
    let second = Pki::load_or_issue(dir.path(), now + YEAR / 2).unwrap();
    assert_eq!(first.admin.certificate(), second.admin.certificate());
    assert_eq!(first.kubernetes_ca.certificate(), second.kubernetes_ca.certificate());
    assert!(first.admin.key().starts_with("-----BEGIN PRIVATE KEY-----"));
}

#[test]
fn an_identity_is_renewed_long_before_it_expires_and_its_authority_stays() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let first = Pki::load_or_issue(dir.path(), now).unwrap();
    let second = Pki::load_or_issue(dir.path(), now + YEAR * 3 / 2).unwrap();
    assert_ne!(first.api_server.certificate(), second.api_server.certificate());
    assert_eq!(first.kubernetes_ca.certificate(), second.kubernetes_ca.certificate());
}

#[test]
fn a_new_authority_signs_everything_anew() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let first = Pki::load_or_issue(dir.path(), now).unwrap();
    fs::remove_file(dir.path().join("kubernetes-ca.pem")).unwrap();
    let second = Pki::load_or_issue(dir.path(), now).unwrap();
    assert_ne!(first.kubernetes_ca.certificate(), second.kubernetes_ca.certificate());
    assert_ne!(first.admin.certificate(), second.admin.certificate());
    assert_eq!(
        first.etcd_client.certificate(),
        second.etcd_client.certificate(),
        "it belongs to another authority"
    );
}

#[test]
fn nobody_else_can_read_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_issue(&dir.path().join("pki"), SystemTime::now()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("pki")), 0o700);
    for file in
        [pki.admin.file(), pki.service_account_key.as_path(), &dir.path().join("pki/etcd-ca.pem")]
    {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_key_that_is_damaged_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("service-account.key"), "scribble").unwrap();
    let error = Pki::load_or_issue(dir.path(), SystemTime::now()).unwrap_err().to_string();
    assert!(error.contains("service-account.key"), "{error}");
}
