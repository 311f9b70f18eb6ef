//! The custom resource definitions: as objects, and as the YAML that is committed in
//! `manifests/crds/`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

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

fn yaml(crd: &CustomResourceDefinition) -> String {
    #[expect(
        clippy::expect_used,
        reason = "the definitions are constants, and a test writes each of them"
    )]
    let yaml = serde_saphyr::to_string(crd).expect("a definition is maps, lists and scalars");
    format!("# Written by `agentvm crds` from crds/src. Do not edit.\n{yaml}")
}
