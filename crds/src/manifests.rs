//! The custom resource definitions, as objects and as the YAML that is committed in `manifests/crds/`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::schema::finish;
use crate::{AgentRun, AgentVMPool, GoldenSnapshot};

/// Every definition, ready to be installed.
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    [GoldenSnapshot::crd(), AgentVMPool::crd(), AgentRun::crd()].into_iter().map(finish).collect()
}

/// File name and YAML of every definition.
pub fn manifests() -> Result<Vec<(String, String)>, serde_saphyr::ser::Error> {
    all_crds()
        .into_iter()
        .map(|crd| {
            let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
            Ok((name, format!("# Written by `agentvm crds` from crds/src. Do not edit.\n{}", serde_saphyr::to_string(&crd)?)))
        })
        .collect()
}
