//! Installs objects into the API server of `standalone`: the kinds, the roles for them, and with
//! `--default-pool` a golden and a pool.

use std::time::Duration;

use agentvm_crds::{
    AgentVMPool, AgentVMPoolSpec, Builtin, GoldenSnapshot, GoldenSnapshotSpec, Source,
};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::{conditions::is_crd_established, wait::await_condition},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::failure::Failure;

/// The field manager of the applied objects.
const MANAGER: &str = "agentvm-standalone";
const ESTABLISHED: Duration = Duration::from_secs(30);
const NAMESPACE: &str = "default";
const NAME: &str = "default";

/// Applies the kinds and waits until the API server serves them.
pub async fn kinds(client: &Client) -> Result<(), Failure> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in agentvm_crds::all_crds() {
        let name = crd.name_any();
        let params = PatchParams::apply(MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(&crd)).await.map_err(Failure::failed)?;
        let established = await_condition(api.clone(), &name, is_crd_established());
        let waited =
            tokio::time::timeout(ESTABLISHED, established).await.map_err(Failure::failed)?;
        waited.map_err(Failure::failed)?;
    }
    Ok(())
}

/// Applies the roles that Kubernetes adds to its own `view`, `edit` and `admin`.
pub async fn roles(client: &Client) -> Result<(), Failure> {
    let api: Api<ClusterRole> = Api::all(client.clone());
    for role in agentvm_crds::all_roles() {
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&role);
        api.patch(&role.name_any(), &params, &patch).await.map_err(Failure::failed)?;
    }
    Ok(())
}

/// A golden of the default image and a pool of it, with the configured sizes. Existing objects stay
/// unchanged.
pub async fn default_pool(client: &Client) -> Result<(), Failure> {
    let source = Source { builtin: Some(Builtin::Debian), rootfs: None };
    let golden = GoldenSnapshotSpec { source, description: None, resources: None, setup: None };
    create(client, &GoldenSnapshot::new(NAME, golden)).await?;
    create(client, &AgentVMPool::new(NAME, AgentVMPoolSpec::of(NAME))).await
}

async fn create<K>(client: &Client, object: &K) -> Result<(), Failure>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    match api.create(&PostParams::default(), object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        done => done.map(|_| ()).map_err(Failure::failed),
    }
}
