//! Writes kubeconfigs. All parts are in one file, so that people can copy it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::certificates::{Authority, Identity};

/// A kubeconfig for `identity`, as YAML. Its values need no quotes.
pub fn render(port: u16, authority: &Authority, identity: &Identity) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: agentvm
  cluster:
    server: https://127.0.0.1:{port}
    certificate-authority-data: {ca}
users:
- name: agentvm
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: agentvm
  context:
    cluster: agentvm
    user: agentvm
current-context: agentvm
",
        ca = STANDARD.encode(authority.certificate()),
        certificate = STANDARD.encode(identity.certificate()),
        key = STANDARD.encode(identity.key()),
    )
}
