//! The custom resource definitions: as objects, and as the YAML that is committed in
//! `manifests/crds/`. The roles for them, in `manifests/rbac/`.

use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde::Serialize;

use crate::roles::all_roles;
use crate::schema::finish;
use crate::{AgentRun, AgentVMPool, GoldenSnapshot};

/// Every definition, ready to be installed.
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    [GoldenSnapshot::crd(), AgentVMPool::crd(), AgentRun::crd()].into_iter().map(finish).collect()
}

/// File name and YAML of every definition.
pub fn manifests() -> Vec<(String, String)> {
    all_crds()
        .iter()
        .map(|crd| (format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural), yaml(crd)))
        .collect()
}

/// File name and YAML of every role.
pub fn role_manifests() -> Vec<(String, String)> {
    let name = |role: &ClusterRole| role.metadata.name.clone().unwrap_or_default();
    all_roles().iter().map(|role| (format!("{}.yaml", name(role)), yaml(role))).collect()
}

fn yaml(object: &impl Serialize) -> String {
    #[expect(
        clippy::expect_used,
        reason = "the definitions are constants, and a test writes each of them"
    )]
    let yaml = serde_saphyr::to_string(object).expect("a definition is maps, lists and scalars");
    format!("# Written by `agentvm crds` from crds/src. Do not edit.\n{yaml}")
}
