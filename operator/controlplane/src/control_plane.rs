//! The control plane as a whole: starts it, tells when it is ready, and ends it in order.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kube::config::{Config as ClientConfig, KubeconfigError};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::prepare::{PrepareError, Prepared, prepare};
use crate::readiness;
use crate::restarts::{ChildEvent, Happened, SupervisedProcess};
use crate::store::{Housekeeper, StoreUsage};
use crate::time_limits::{API_SERVER_GRACE, CONTROLLER_MANAGER_GRACE, LEAST_ETCD_GRACE};
use crate::{Component, Config};

const REMEMBERED_EVENTS: usize = 64;
/// Another program may take a port after our check and before the child's start.
const PORT_ATTEMPTS: u32 = 4;
const PORT_TAKEN: &str = "address already in use";

/// A running control plane. Dropping it kills its children. [`ControlPlane::shutdown`] ends them in
/// order.
#[derive(Debug)]
pub struct ControlPlane {
    kubeconfig_path: PathBuf,
    kubeconfig: String,
    client_config: ClientConfig,
    events: broadcast::Sender<ChildEvent>,
    housekeeper: Housekeeper,
    controller_manager: Option<SupervisedProcess>,
    api_server: SupervisedProcess,
    etcd: SupervisedProcess,
}

/// A control plane could not be started. No part of it runs.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("could not prepare a control plane in {}", data_dir.display())]
    Prepare {
        data_dir: PathBuf,
        #[source]
        why: PrepareError,
    },
    #[error("could not run {} ({why}); build it with `make controlplane`", program.display())]
    NotStarted { program: PathBuf, why: String },
    #[error("{component} ended at its start ({how}); the last lines of {} are:\n\
             {last_lines}", log.display())]
    Died { component: Component, how: String, log: PathBuf, last_lines: String },
    #[error(
        "the control plane wasn't ready after {} s ({last}); see the logs in {}",
        after.as_secs(),
        logs.display()
    )]
    NotReady { after: Duration, last: String, logs: PathBuf },
    #[error("the kubeconfig that agentvm wrote can't be used; report this as a bug")]
    Kubeconfig(#[source] KubeconfigError),
    #[error("no client could be made from the kubeconfig that agentvm wrote; report this as a bug")]
    Client(#[source] kube::Error),
}

impl ControlPlane {
    /// Starts everything and returns when the API is usable.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let mut attempt = 0;
        loop {
            let prepared = prepare_in_background(&config, attempt).await?;
            attempt += 1;
            match Self::start_prepared(&config, prepared).await {
                Err(StartError::Died { last_lines, .. })
                    if attempt < PORT_ATTEMPTS && last_lines.contains(PORT_TAKEN) =>
                {
                    tracing::info!(
                        attempt,
                        "another program took a port just before the start; choosing other ports"
                    );
                }
                outcome => return outcome,
            }
        }
    }

    /// The administrator's kubeconfig, mode 0600, in the data folder.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig_path
    }

    /// The text of this kubeconfig.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// This kubeconfig in the form for kube's client.
    pub fn client_config(&self) -> ClientConfig {
        self.client_config.clone()
    }

    /// The events of the children from now on.
    pub fn events(&self) -> broadcast::Receiver<ChildEvent> {
        self.events.subscribe()
    }

    /// The space that the store takes.
    pub fn store_usage(&self) -> watch::Receiver<StoreUsage> {
        self.housekeeper.usage()
    }

    /// Ends everything, the store last, so that the store gets all writes. Takes at most
    /// `deadline`, but always gives the store two seconds.
    pub async fn shutdown(self, deadline: Duration) {
        let began = Instant::now();
        drop(self.housekeeper);
        let left = |most: Duration| deadline.saturating_sub(began.elapsed()).min(most);
        if let Some(controller_manager) = self.controller_manager {
            controller_manager.stop(left(CONTROLLER_MANAGER_GRACE)).await;
        }
        self.api_server.stop(left(API_SERVER_GRACE)).await;
        self.etcd.stop(left(Duration::MAX).max(LEAST_ETCD_GRACE)).await;
    }

    async fn start_prepared(config: &Config, prepared: Prepared) -> Result<Self, StartError> {
        let client_config =
            readiness::client_config(&prepared.kubeconfig).await.map_err(StartError::Kubeconfig)?;
        let store = readiness::client_config(&prepared.store_access)
            .await
            .map_err(StartError::Kubeconfig)?;
        let client = kube::Client::try_from(client_config.clone()).map_err(StartError::Client)?;
        let (events, mut seen) = broadcast::channel(REMEMBERED_EVENTS);
        // Both start together, because the API server waits for its store.
        let etcd = SupervisedProcess::keep_running(prepared.etcd.clone(), events.clone());
        let api_server =
            SupervisedProcess::keep_running(prepared.api_server.clone(), events.clone());

        let mut last = String::new();
        let outcome = tokio::select! {
            failure = first_failure(&mut seen, &prepared) => Err(Some(failure)),
            ready = timeout(config.start_timeout, readiness::ready(&client, &mut last)) => {
                ready.map_err(|_| None)
            }
        };
        if let Err(failure) = outcome {
            api_server.stop(Duration::ZERO).await;
            etcd.stop(LEAST_ETCD_GRACE).await;
            let logs = prepared.etcd.log.parent().map(Path::to_owned).unwrap_or_default();
            return Err(failure.unwrap_or(StartError::NotReady {
                after: config.start_timeout,
                last,
                logs,
            }));
        }
        let controller_manager = config
            .controller_manager
            .then(|| SupervisedProcess::keep_running(prepared.controller_manager, events.clone()));
        let Prepared { kubeconfig_path, kubeconfig, .. } = prepared;
        Ok(Self {
            kubeconfig_path,
            kubeconfig,
            client_config,
            events,
            housekeeper: Housekeeper::start(&store, config.store_quota_bytes, config.store_pause),
            controller_manager,
            api_server,
            etcd,
        })
    }
}

async fn prepare_in_background(config: &Config, attempt: u32) -> Result<Prepared, StartError> {
    let task = config.clone();
    let outcome = match tokio::task::spawn_blocking(move || prepare(&task, attempt)).await {
        Ok(outcome) => outcome,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    };
    outcome.map_err(|why| StartError::Prepare { data_dir: config.data_dir.clone(), why })
}

/// Waits until a child fails. During a start every death is final: a restart would only fail again
/// later, unnoticed.
async fn first_failure(
    events: &mut broadcast::Receiver<ChildEvent>,
    prepared: &Prepared,
) -> StartError {
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => std::future::pending().await,
        };
        let component = event.component;
        let line = match component {
            Component::Etcd => &prepared.etcd,
            Component::ApiServer => &prepared.api_server,
            Component::ControllerManager => &prepared.controller_manager,
        };
        match event.happened {
            Happened::Started { .. } => {}
            Happened::NotStarted { why } => {
                return StartError::NotStarted { program: line.program.clone(), why };
            }
            Happened::Died { how, last_lines } => {
                return StartError::Died { component, how, log: line.log.clone(), last_lines };
            }
        }
    }
}
