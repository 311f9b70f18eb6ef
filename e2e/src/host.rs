//! A host with a golden and a pool, and runs on them.

use std::time::{Duration, Instant};

use agentvm_crds::{AgentRun, AgentVMPool, ConditionStatus, GoldenSnapshot, condition_type};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Client, Config, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{DataDir, Error, Run, Standalone, leftovers};

/// The patience for everything that a machine does: emulated machines on a busy host are slow.
pub const PATIENCE: Duration = Duration::from_mins(3);
const NAMESPACE: &str = "default";

/// One host under test.
pub struct Host {
    pub dir: DataDir,
    pub standalone: Standalone,
    pub client: Client,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Host {
    /// A fresh host.
    pub async fn start(arguments: &[&str]) -> Result<Self, Error> {
        Self::start_on(DataDir::new()?, arguments).await
    }

    /// A host that may find things of an earlier start.
    pub async fn start_on(dir: DataDir, arguments: &[&str]) -> Result<Self, Error> {
        let standalone = Standalone::start(&dir, arguments).await?;
        let kubeconfig = Kubeconfig::read_from(dir.path().join("kubeconfig"))?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { dir, standalone, client: Client::try_from(config)? })
    }

    /// Sends SIGKILL; the folder stays.
    pub async fn kill(self) -> Result<DataDir, Error> {
        self.standalone.kill().await?;
        Ok(self.dir)
    }

    /// Sends SIGTERM. The process must end in time, succeed, and leave only the folder.
    pub async fn stop(self) -> Result<(DataDir, Duration), Error> {
        let Self { dir, standalone, .. } = self;
        let (status, took) = standalone.stop().await?;
        crate::ensure!(status.success(), "standalone ended with {status}\n{}", dir.end_of_log());
        let left = leftovers(dir.path());
        crate::ensure!(left.is_empty(), "this is still there: {left:#?}\n{}", dir.end_of_log());
        Ok((dir, took))
    }

    /// Makes a golden and a pool `default`, as small as possible, and waits for the first warm
    /// machine.
    pub async fn with_pool(self, min: i32, max: i32) -> Result<Self, Error> {
        let golden = json!({
            "source": {"builtin": "Debian"},
            "resources": {"profile": "Custom", "custom": {"vcpus": 1, "memoryMiB": 512,
                "diskGiB": 4}},
        });
        let golden = GoldenSnapshot::new("default", serde_json::from_value(golden)?);
        self.api().create(&PostParams::default(), &golden).await?;
        let pool = json!({
            "goldenSnapshotRef": {"name": "default"},
            "warm": {"min": min, "max": max},
            "network": {"mode": "Isolated"},
        });
        let pool = AgentVMPool::new("default", serde_json::from_value(pool)?);
        self.api().create(&PostParams::default(), &pool).await?;
        self.warm().await?;
        Ok(self)
    }

    /// Waits until the pool `default` is full. If it is not, the golden's message says why.
    pub async fn warm(&self) -> Result<(), Error> {
        let ready =
            await_condition(self.api::<AgentVMPool>(), "default", |pool: Option<&AgentVMPool>| {
                pool.and_then(|pool| pool.status.as_ref()).is_some_and(|status| {
                    let ready = status
                        .conditions
                        .iter()
                        .find(|condition| condition.type_ == condition_type::READY);
                    ready.is_some_and(|condition| condition.status == ConditionStatus::True)
                })
            });
        if let Ok(waited) = timeout(PATIENCE, ready).await {
            return Ok(waited.map(|_| ())?);
        }
        let golden = self.api::<GoldenSnapshot>().get("default").await?.status;
        let pool = self.api::<AgentVMPool>().get("default").await?.status;
        Err(format!("no machines: golden {golden:?}, pool {pool:?}\n{}", self.dir.end_of_log())
            .into())
    }

    /// The objects of a kind.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Creates a run; returns its name.
    pub async fn submit(&self, spec: Value) -> Result<String, Error> {
        let mut run = AgentRun::new("", serde_json::from_value(spec)?);
        run.metadata.name = None;
        run.metadata.generate_name = Some("run-".to_owned());
        Ok(self.api().create(&PostParams::default(), &run).await?.name_any())
    }

    /// Waits until a run is over.
    pub async fn ended(&self, name: &str) -> Result<Run, Error> {
        self.until(name, "over", Run::is_over).await
    }

    /// Waits until a condition of a run holds.
    pub async fn until(
        &self,
        name: &str,
        what: &str,
        holds: fn(&AgentRun) -> bool,
    ) -> Result<Run, Error> {
        let wanted =
            await_condition(self.api::<AgentRun>(), name, move |run: Option<&AgentRun>| {
                run.is_some_and(holds)
            });
        if let Ok(found) = timeout(PATIENCE, wanted).await {
            return Ok(Run::new(found?.ok_or("the run was deleted")?));
        }
        let stands = self.api::<AgentRun>().get(name).await?.status;
        Err(format!("{name} was never {what}, it stands at {stands:?}\n{}", self.dir.end_of_log())
            .into())
    }

    /// Waits until a current run has written a file to its output: then the program is in the
    /// middle of its work.
    pub async fn until_in_output(&self, name: &str, file: &str) -> Result<(), Error> {
        let claimed =
            |run: &AgentRun| run.status.as_ref().is_some_and(|status| status.vm_name.is_some());
        let run = self.until(name, "claimed", claimed).await?;
        let machine = run.status().vm_name.clone().unwrap_or_default();
        let path =
            self.dir.path().join("host/machines").join(machine).join("share/output").join(file);
        let deadline = Instant::now() + PATIENCE;
        let mut look = tokio::time::interval(Duration::from_millis(50));
        while !path.exists() {
            crate::ensure!(Instant::now() < deadline, "{} never appeared", path.display());
            look.tick().await;
        }
        Ok(())
    }

    /// Executes a command, and waits for its end.
    pub async fn run(&self, spec: Value) -> Result<Run, Error> {
        let name = self.submit(spec).await?;
        self.ended(&name).await
    }

    /// Executes a text in an interpreter, and waits for its end.
    pub async fn script(&self, language: &str, source: &str) -> Result<Run, Error> {
        self.run(json!({"code": {"language": language, "source": source}})).await
    }

    /// Executes a text as the machine's root.
    pub async fn script_as_root(&self, language: &str, source: &str) -> Result<Run, Error> {
        self.run(json!({"runAs": "Root", "code": {"language": language, "source": source}})).await
    }

    /// `desiredState: Cancelled`.
    pub async fn cancel(&self, name: &str) -> Result<(), Error> {
        let patch = Patch::Merge(json!({"spec": {"desiredState": "Cancelled"}}));
        self.api::<AgentRun>().patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }
}
