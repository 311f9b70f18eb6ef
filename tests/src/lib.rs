//! Parts that several test files share: a real API server with our kinds, a namespace for each
//! test, and an operator with machines that are processes.

mod agents;
mod border;
mod frames;
mod look;
mod outside;
mod wire;
mod world;

pub use agents::agent_binary;
pub use agentvm_testing::Error;
pub use border::{Answer, Border, Mishap, Request};
pub use frames::{Frames, How, Place};
pub use look::{Conditioned, condition, reason};
pub use outside::{DIE_AT, HANG_AT, LEASE_SECONDS, NODE_NAME, Outside};
pub use wire::{Sent, Wire, operator_client};
pub use world::{World, operator_config};

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agentvm_controlplane::Binaries;
use agentvm_testing::control_plane::{Shared, private, shared};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PostParams};
use kube::runtime::wait::{await_condition, conditions::is_crd_established};
use tokio::sync::OnceCell;

/// The time that an API server may take to serve new kinds.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(30);

/// A namespace on an API server, which the tests of a process share.
#[derive(Clone)]
pub struct Bench {
    /// A client with an administrator's rights.
    pub client: kube::Client,
    /// The namespace of this test.
    pub namespace: String,
    plane: &'static Shared,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Bench {
    /// Makes the namespace. The first test starts the API server with our kinds.
    pub async fn new() -> Result<Self, Error> {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        let plane = shared().await?;
        let client = plane.client()?;
        INSTALLED.get_or_try_init(|| install(&client)).await?;
        Self::on(plane, client).await
    }

    /// Makes it on an API server of its own, for a test that changes the cluster itself.
    pub async fn alone() -> Result<Self, Error> {
        let plane = private().await?;
        let client = plane.client()?;
        install(&client).await?;
        Self::on(plane, client).await
    }

    async fn on(plane: &'static Shared, client: kube::Client) -> Result<Self, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let namespace = format!("test-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let object = serde_json::from_value(serde_json::json!({"metadata": {"name": namespace}}))?;
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await?;
        Ok(Self { client, namespace, plane })
    }

    /// The administrator's kubeconfig, for other programs.
    pub fn kubeconfig(&self) -> &'static Path {
        self.plane.kubeconfig_path()
    }

    /// The objects of a kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Runs kubectl in the namespace, as a user would.
    pub async fn kubectl(&self, args: &[&str]) -> Result<Output, Error> {
        let program = Binaries::find(None)?
            .kubectl
            .ok_or("kubectl isn't among the control plane's programs")?;
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command.args(["--namespace", &self.namespace]).args(args);
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    }
}

/// Installs our kinds and roles as their manifests say, and waits until the kinds are served.
async fn install(client: &kube::Client) -> Result<(), Error> {
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    for crd in agentvm_crds::all_crds() {
        let created = crds.create(&PostParams::default(), &crd).await?;
        let name = created.metadata.name.unwrap_or_default();
        let established = await_condition(crds.clone(), &name, is_crd_established());
        tokio::time::timeout(ESTABLISHED_WITHIN, established)
            .await
            .map_err(|_| format!("{name} isn't established"))??;
    }
    let roles = Api::<ClusterRole>::all(client.clone());
    for role in agentvm_crds::all_roles() {
        roles.create(&PostParams::default(), &role).await?;
    }
    Ok(())
}
