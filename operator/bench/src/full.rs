//! The whole product on the bench's host: the parts that `agentvm standalone` starts, with a
//! golden, a pool, and a watcher of runs.

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agentvm_crds::{AgentRun, AgentVMPool, ConditionStatus, GoldenSnapshot, NetworkMode, Timings};
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::error::{BenchError, step};

const NAMESPACE: &str = "default";
/// A capture without KVM takes a minute. No run of a bench takes longer than this.
const PATIENCE: Duration = Duration::from_mins(5);
/// Longer than a pool waits between two writes of its status.
const SETTLED: Duration = Duration::from_millis(1200);

/// A client of the product, like a user's.
pub struct Full {
    pub client: Client,
    /// The address of the operator's metrics.
    pub metrics: Option<SocketAddr>,
    network: NetworkMode,
    seen: watch::Receiver<HashMap<String, Seen>>,
    watcher: JoinHandle<()>,
}

/// The times at which a watcher saw the states of a run.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub claimed: Option<Instant>,
    pub finished: Option<Instant>,
    pub succeeded: bool,
    /// The reason of its end, in one word.
    pub reason: String,
    pub run: Option<Arc<AgentRun>>,
}

impl Seen {
    /// The times in the run's status.
    pub fn timings(&self) -> Option<&Timings> {
        self.run.as_ref()?.status.as_ref()?.timings.as_ref()
    }
}

/// A time of a status, which counts whole milliseconds.
pub fn status_time(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

impl Full {
    /// Takes a client of an API server with the kinds and an operator.
    pub fn new(client: Client, metrics: Option<SocketAddr>, network: NetworkMode) -> Self {
        let (tell, seen) = watch::channel(HashMap::new());
        let watcher = tokio::spawn(follow(client.clone(), tell));
        Self { client, metrics, network, seen, watcher }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Makes a golden of this size and a pool `default` of it. Returns when the pool's machines are
    /// warm.
    pub async fn pool(&self, memory_mib: u32, min: u32, max: u32) -> Result<(), BenchError> {
        let custom = json!({"vcpus": 1, "memoryMiB": memory_mib, "diskGiB": 4});
        let resources = json!({"profile": "Custom", "custom": custom});
        let golden = json!({"source": {"builtin": "Debian"}, "resources": resources});
        self.create::<GoldenSnapshot>("default", golden).await?;
        let warm = json!({"min": min, "max": max});
        let pool = json!({
            "goldenSnapshotRef": {"name": "default"},
            "warm": warm,
            "network": {"mode": self.network},
        });
        self.create::<AgentVMPool>("default", pool).await?;
        self.until_warm(min).await
    }

    pub async fn resize(&self, min: u32, max: u32) -> Result<(), BenchError> {
        let patch = Patch::Merge(json!({"spec": {"warm": {"min": min, "max": max}}}));
        let patched =
            self.api::<AgentVMPool>().patch("default", &PatchParams::default(), &patch).await;
        patched.map_err(step("resize the pool"))?;
        self.until_warm(min).await
    }

    pub async fn until_warm(&self, wanted: u32) -> Result<(), BenchError> {
        let warm = move |pool: Option<&AgentVMPool>| {
            let status = pool.and_then(|pool| pool.status.as_ref());
            status.is_some_and(|status| u32::try_from(status.warm).is_ok_and(|warm| warm >= wanted))
        };
        let seen =
            timeout(PATIENCE, await_condition(self.api::<AgentVMPool>(), "default", warm)).await;
        if let Ok(done) = seen {
            return done.map(drop).map_err(step("watch the pool"));
        }
        let pool = self.api::<AgentVMPool>().get("default").await.map_err(step("read the pool"))?;
        let why =
            pool.status.map(|status| json!(status.conditions).to_string()).unwrap_or_default();
        Err(BenchError::Found(format!("the pool never had {wanted} warm machines: {why}")))
    }

    /// Like [`Full::until_warm`], and also waits until the current work ends. Pools write their
    /// status at most once a second. So a good status counts only if it is still good a while
    /// later.
    pub async fn settled(&self, wanted: u32) -> Result<(), BenchError> {
        loop {
            self.until_warm(wanted).await?;
            let before =
                self.api::<AgentVMPool>().get("default").await.map_err(step("read the pool"))?;
            sleep(SETTLED).await;
            let after =
                self.api::<AgentVMPool>().get("default").await.map_err(step("read the pool"))?;
            if before.resource_version() == after.resource_version() {
                return Ok(());
            }
        }
    }

    pub async fn create<K>(&self, name: &str, spec: Value) -> Result<K, BenchError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + Serialize + DeserializeOwned,
    {
        let object = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name},
            "spec": spec,
        });
        let object: K = serde_json::from_value(object).map_err(step(format!("write {name}")))?;
        self.api()
            .create(&PostParams::default(), &object)
            .await
            .map_err(step(format!("create {name}")))
    }

    /// Creates a run of a command that does nothing.
    pub async fn start(&self, name: &str) -> Result<Instant, BenchError> {
        let began = Instant::now();
        self.create::<AgentRun>(name, json!({"command": ["true"]})).await?;
        Ok(began)
    }

    /// The times of a run, after its end.
    pub async fn finished(&self, name: &str) -> Result<Seen, BenchError> {
        let mut seen = self.seen.clone();
        let over = seen.wait_for(|all| all.get(name).is_some_and(|run| run.finished.is_some()));
        let over = timeout(PATIENCE, over).await;
        let all =
            over.map_err(step(format!("see the end of {name}")))?.map_err(step("watch runs"))?;
        all.get(name).cloned().ok_or_else(|| BenchError::Found(format!("{name} is gone")))
    }

    /// Like [`Full::finished`]; the run must have succeeded.
    pub async fn succeeded(&self, name: &str) -> Result<Seen, BenchError> {
        let seen = self.finished(name).await?;
        if seen.succeeded {
            Ok(seen)
        } else {
            Err(BenchError::Found(format!("{name} ended with {}", seen.reason)))
        }
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// Records the time when each state of each run is seen.
async fn follow(client: Client, tell: watch::Sender<HashMap<String, Seen>>) {
    let api: Api<AgentRun> = Api::namespaced(client, NAMESPACE);
    let mut events =
        watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
    while let Some(event) = events.next().await {
        let now = Instant::now();
        match event {
            Ok(run) => {
                tell.send_modify(|all| note(all.entry(run.name_any()).or_default(), run, now));
            }
            Err(why) => tracing::debug!(
                error = &why as &dyn std::error::Error,
                "the watch of runs begins again"
            ),
        }
    }
}

fn note(seen: &mut Seen, run: AgentRun, now: Instant) {
    let conditions =
        run.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let of = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
    if of("Scheduled").is_some_and(|condition| condition.status == ConditionStatus::True) {
        seen.claimed.get_or_insert(now);
    }
    let Some(end) =
        of("Succeeded").filter(|condition| condition.status != ConditionStatus::Unknown)
    else {
        return;
    };
    seen.finished.get_or_insert(now);
    seen.succeeded = end.status == ConditionStatus::True;
    seen.reason.clone_from(&end.reason);
    seen.run = Some(Arc::new(run));
}
