//! The world of one test: a namespace, an operator that sees only that namespace, and machines that
//! are processes.
#![allow(
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test ends where something is not as it should be"
)]

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentvm_core::{
    defaults::Defaults,
    names::DomainName,
    node::LeaseTimes,
    pool::{Budget, DiskLimits},
};
use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot};
use agentvm_hypervisor::fake::{DestroyAll, FakeHypervisor};
use agentvm_operator::api::TimeLimits;
use agentvm_operator::clock::Clock;
use agentvm_operator::controllers::{Operator, OperatorConfig};
use agentvm_operator::metrics::Metrics;
use agentvm_operator::node::{Node, id};
use agentvm_testing::{PATIENCE, scratch};
use agentvm_types::NodeName;
use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{Bench, Conditioned, Error, Wire, agent_binary, operator_client};

/// A namespace, a fake host and an operator. The machines end together with this value.
#[derive(Debug)]
pub struct World {
    pub bench: Bench,
    pub fake: FakeHypervisor,
    pub folder: PathBuf,
    pub config: OperatorConfig,
    /// The time limits of the operator's calls to the API server.
    pub limits: TimeLimits,
    /// The requests that the operator has sent.
    pub wire: Wire,
    operator: Option<Operator>,
    _guard: DestroyAll,
}

impl World {
    /// A world whose operator is at work.
    pub async fn new() -> Self {
        let mut world = Self::at_rest().await;
        world.start().await;
        world
    }

    /// A world without an operator: change `config`, plan faults, then call [`World::start`].
    pub async fn at_rest() -> Self {
        Self::on(must(Bench::new().await))
    }

    /// A world at rest on an API server of its own, for a test that changes the cluster itself.
    pub async fn at_rest_alone() -> Self {
        Self::on(must(Bench::alone().await))
    }

    /// Another host of the same cluster, at rest.
    #[must_use]
    pub fn beside(&self, name: &str) -> Self {
        let mut other = Self::on(self.bench.clone());
        other.config.node.name = NodeName::new(name);
        other
    }

    fn on(bench: Bench) -> Self {
        // Logs are off unless RUST_LOG sets a filter. A second world finds the logger in place.
        let asked = std::env::var("RUST_LOG").unwrap_or_else(|_| "off".to_owned());
        let filter = tracing_subscriber::EnvFilter::new(asked);
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let folder = scratch();
        let fake = FakeHypervisor::open(folder.join("host"), agent_binary());
        let config = must(operator_config(&fake, &folder, &bench.namespace));
        let guard = fake.guard();
        let (limits, wire) = (TimeLimits::default(), Wire::default());
        Self { bench, fake, folder, config, limits, wire, operator: None, _guard: guard }
    }

    /// Starts the operator.
    pub async fn start(&mut self) {
        let kubeconfig = self.bench.kubeconfig();
        let (client, wire) =
            must(operator_client(kubeconfig, &self.bench.namespace, self.limits).await);
        self.wire = wire;
        self.operator = Some(must(
            Operator::start(client, Arc::new(self.fake.clone()), self.config.clone()).await,
        ));
    }

    /// Starts the operator where it is refused, and says why.
    pub async fn refused(&self) -> String {
        let (kubeconfig, namespace) = (self.bench.kubeconfig(), &self.bench.namespace);
        let client = operator_client(kubeconfig, namespace, self.limits).await;
        let host = Arc::new(self.fake.clone());
        match Operator::start(must(client).0, host, self.config.clone()).await {
            Err(why) => agentvm_types::report(&why),
            Ok(operator) => panic!("{operator:?} started"),
        }
    }

    /// Returns when another operator has the Lease of this one.
    pub async fn lease_lost(&self) -> String {
        match &self.operator {
            Some(operator) => operator.lease_lost().await,
            None => panic!("there is no operator"),
        }
    }

    /// Stops the operator in order.
    pub async fn stop(&mut self, patience: Duration, end_machines: bool) {
        if let Some(operator) = self.operator.take() {
            operator.stop(patience, end_machines).await;
        }
    }

    /// A golden snapshot of the default image, and a pool of it.
    pub async fn pool(&self, name: &str, min: u32, max: u32) -> AgentVMPool {
        self.pool_with(name, json!({"warm": {"min": min, "max": max}})).await
    }

    /// Makes a pool with more fields in its spec.
    pub async fn pool_with(&self, name: &str, more: Value) -> AgentVMPool {
        self.create::<GoldenSnapshot>(name, json!({"source": {"builtin": "Debian"}})).await;
        let spec = json!({"goldenSnapshotRef": {"name": name}, "network": {"mode": "Isolated"}});
        self.create(name, with(spec, more)).await
    }

    /// A pool with all of its machines warm.
    pub async fn warm_pool(&self, name: &str, min: u32, max: u32) -> AgentVMPool {
        self.pool(name, min, max).await;
        self.until(name, "all machines are warm", move |pool: &AgentVMPool| warm(pool) == min).await
    }

    /// A run of a shell script on the pool `default`.
    pub async fn script(&self, name: &str, script: &str, more: Value) -> AgentRun {
        self.create(name, with(json!({"command": ["bash", "-c", script]}), more)).await
    }

    pub async fn create<K>(&self, name: &str, spec: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + Serialize + DeserializeOwned,
    {
        let object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name},
                "spec": spec,
        });
        must(
            self.bench
                .api::<K>()
                .create(&PostParams::default(), &must(serde_json::from_value(object)))
                .await,
        )
    }

    /// Merges fields into an object.
    pub async fn patch<K>(&self, name: &str, patch: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        must(self.bench.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await)
    }

    pub async fn delete<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        must(self.bench.api::<K>().delete(name, &DeleteParams::default()).await);
    }

    /// The object, as soon as the condition holds.
    pub async fn until<K>(&self, name: &str, what: &str, holds: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
    {
        let wait = await_condition(self.bench.api::<K>(), name, |object: Option<&K>| {
            object.is_some_and(&holds)
        });
        if let Ok(seen) = timeout(PATIENCE, wait).await {
            return must(seen).unwrap_or_else(|| panic!("{name} is gone"));
        }
        panic!("{name}: never so: {what}; it is\n{}", self.shown::<K>(name).await)
    }

    /// Returns when the object is gone.
    pub async fn gone<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
    {
        let wait =
            await_condition(self.bench.api::<K>(), name, |object: Option<&K>| object.is_none());
        assert!(
            timeout(PATIENCE, wait).await.is_ok(),
            "{name} is never gone:\n{}",
            self.shown::<K>(name).await
        );
    }

    /// The run when it is over.
    pub async fn finished(&self, name: &str) -> AgentRun {
        self.until(name, "finished", |run: &AgentRun| {
            agentvm_core::run::is_finished(run.status.as_ref())
        })
        .await
    }

    /// The run when it executes.
    pub async fn running(&self, name: &str) -> AgentRun {
        self.until(name, "running", |run: &AgentRun| {
            crate::reason(run, "Scheduled") == "True/Claimed"
        })
        .await
    }

    /// The object when its condition of this type says `True/Reason`.
    pub async fn says<K>(&self, name: &str, type_: &str, reason: &str) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Conditioned,
        K: Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
    {
        self.until(name, &format!("{type_} is {reason}"), |object: &K| {
            crate::reason(object, type_) == reason
        })
        .await
    }

    /// The path of a file that runs can write as `/workspace/../NAME`. It is outside of every
    /// share.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The host's side of a machine's `/workspace`.
    pub fn share(&self, machine: &str) -> PathBuf {
        self.fake.share(&DomainName::from_recorded(machine))
    }

    async fn shown<K>(&self, name: &str) -> String
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        match self.bench.api::<K>().get_opt(name).await {
            Ok(Some(object)) => serde_json::to_string_pretty(&object).unwrap_or_default(),
            other => format!("{other:?}"),
        }
    }
}

/// The configuration of an operator on a fake. Its runs and its image are in `folder`.
pub fn operator_config(
    fake: &FakeHypervisor,
    folder: &Path,
    namespace: &str,
) -> Result<OperatorConfig, Error> {
    let host = folder.join("host");
    std::fs::create_dir_all(&host)?;
    let (id, name) = (id::load_or_draw(&host)?, NodeName::new("node-a"));
    // Each test has Leases of its own.
    let lease_namespace = namespace.to_owned();
    let node = Node { lease_namespace, ..Node::here(id, name, LeaseTimes::SHARED)? };
    let image = folder.join("image");
    std::fs::create_dir_all(&image)?;
    std::fs::write(image.join("image.json"), "{}")?;
    Ok(OperatorConfig {
        clock: Clock::system(),
        instance: fake.instance(),
        node,
        defaults: Defaults::default(),
        budget: Budget { machines: 32, memory_mib: 1 << 20 },
        disk: DiskLimits { low_mib: 64, critical_mib: 8, ..DiskLimits::default() },
        share_bytes: 64 << 20,
        parallel: 4,
        state_dir: host,
        runs: folder.join("runs"),
        sweep_after: Duration::ZERO,
        image,
        images_folder: Some(folder.join("images")),
        linger: Duration::ZERO,
        metrics: Metrics::off(),
    })
}

fn warm(pool: &AgentVMPool) -> u32 {
    pool.status.as_ref().and_then(|status| u32::try_from(status.warm).ok()).unwrap_or(0)
}

/// Puts the fields of `more` over those of `base`.
fn with(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}

fn must<T, E: Debug>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|why| panic!("{why:?}"))
}
