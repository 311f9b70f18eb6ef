//! The wiring: caches, controllers, and the order in which they start and stop.

use std::{fmt::Debug, future::Future, hash::Hash, path::PathBuf, sync::Arc, time::Duration};

use agentvm_core::{
    defaults::Defaults,
    invalid_spec::InvalidSpec,
    names::InstanceId,
    network::policy,
    pool::{Budget, DiskLimits, DiskState},
};
use agentvm_files::{Untrusted, make_trusted};
use agentvm_hypervisor::{HvError, Hypervisor, Mark, Stop};
use futures::{FutureExt, StreamExt, channel::mpsc::UnboundedSender, future};
use kube::{
    Client, Resource,
    runtime::{
        Controller,
        controller::{Action, Error as ControllerError},
        reflector::ObjectRef,
    },
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    Context, Error, Guarded, HostState,
    cache::Filled,
    context::{Caches, Parts},
    disk::watch_disk,
    events::Recorder,
    golden,
    host::watch_host,
    lines::Lines,
    pool,
    router::{Router, router},
    run,
    sweep::sweep,
    turns::Turns,
};
use crate::{
    clock::Clock,
    goldens::{self, Goldens},
    machines::{self, Machines},
    metrics::Metrics,
    network::{
        Network,
        flows::{self, FlowRecorder},
    },
    node::{
        Node,
        acquire::{LeaseError, acquire},
        cluster::{self, UnknownCluster},
        fence::fence,
        keeper::Keeper,
        lease::Leases,
        marker::{Marker, MarkerError},
    },
};

/// Runs, pools and snapshots.
const CACHES: usize = 3;

/// The time to end a run: SIGTERM, 5 s, SIGKILL, collecting its output and writing its status.
const EVICTION: Duration = Duration::from_secs(8);

/// The time to end all machines.
const MACHINES: Duration = Duration::from_secs(5);

/// The configuration of an operator.
#[derive(Clone, Debug)]
pub struct OperatorConfig {
    pub instance: InstanceId,
    pub node: Node,
    pub defaults: Defaults,
    pub budget: Budget,
    pub disk: DiskLimits,
    pub share_bytes: u64,
    pub parallel: usize,
    /// The folder of goldens and machines. The caller has its lock.
    pub state_dir: PathBuf,
    /// The folder of the runs' streams and output.
    pub runs: PathBuf,
    pub image: PathBuf,
    /// The folder of root filesystems that users may name; none where there is none.
    pub images_folder: Option<PathBuf>,
    /// The time for which goldens are kept whose layout no pool needs.
    pub linger: Duration,
    /// The age before which no folder of a run is removed.
    pub sweep_after: Duration,
    /// The metrics; off where they are not served.
    pub metrics: Metrics,
    pub clock: Clock,
}

/// Why an operator could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the network that machines get by default can't be")]
    Network(#[source] InvalidSpec),
    #[error("the default guest image can't be used")]
    Image(#[source] goldens::ImageError),
    #[error(transparent)]
    Folder(#[from] Untrusted),
    #[error(transparent)]
    Cluster(#[from] UnknownCluster),
    #[error(transparent)]
    Marker(#[from] MarkerError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

/// An operator at work.
pub struct Operator {
    cx: Arc<Context>,
    tasks: JoinSet<()>,
    wake_runs: UnboundedSender<ObjectRef<Guarded<agentvm_crds::AgentRun>>>,
    keeper: Arc<Keeper>,
}

impl Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Operator({:?})", self.cx)
    }
}

impl Operator {
    /// Takes the Lease of this node, then starts all of it. [`Operator::host`] says when the host
    /// is ready.
    pub async fn start(
        client: Client,
        hv: Arc<dyn Hypervisor>,
        config: OperatorConfig,
    ) -> Result<Self, StartError> {
        let image_digest = goldens::image_digest(&config.image).map_err(StartError::Image)?;
        make_trusted(&config.runs, 0o755)?;
        let marker = Marker { cluster: cluster::id(&client).await?, node: config.node.id.clone() };
        marker.claim(&config.state_dir, "--state-dir, or --data-dir of standalone")?;
        marker.claim(&config.runs, "execution.workspace_path")?;
        let leases = Leases::new(client.clone(), config.node.clone());
        let held =
            acquire(&leases, &config.node, &config.clock, || end_attempts(hv.clone())).await?;
        let clock = config.clock.clone();
        let keeper = Arc::new(Keeper::new(leases, config.node.clone(), clock, held));
        let (machine_events, machine_queue) = mpsc::unbounded_channel();
        let (golden_events, golden_queue) = mpsc::unbounded_channel();
        let network = Network::new(
            hv.clone(),
            config.instance.clone(),
            config.defaults.network.deny_cidrs.clone(),
        );
        let machines = Machines::new(
            hv.clone(),
            network.clone(),
            machines_config(&config, &marker),
            machine_events,
        );
        let goldens_config = goldens_config(&config, image_digest)?;
        let goldens = Goldens::new(hv, network, goldens_config, golden_events);
        let (host_state, host) =
            watch::channel(HostState::Unknown("the host was not asked yet".to_owned()));
        let (disk_state, disk) = watch::channel(DiskState::default());
        let (router, queues) = router();
        let (lines, news) = Lines::new(config.node.name.clone(), config.clock.clone());
        let lines = Arc::new(lines);
        let wake_runs = router.run_sender();
        let of_goldens = Turns::new(router.snapshot_sender());
        let (turns_of_pools, turns_of_runs) =
            (Turns::new(router.pool_sender()), Turns::new(router.run_sender()));
        let filled = Filled::new();
        let (of_runs, of_pools) = (lines.clone(), lines.clone());
        let run_controller = filled
            .controller(&client, move |event| of_runs.on_run(event))
            .reconcile_on(queues.runs);
        let pool_controller = filled
            .controller(&client, move |event| of_pools.on_pool(event))
            .reconcile_on(queues.pools);
        let golden_controller = filled.controller(&client, |_| {}).reconcile_on(queues.snapshots);
        let cx = Arc::new(Context::new(Parts {
            recorder: Recorder::new(client.clone(), &config.node.name, config.metrics.clone()),
            client,
            defaults: config.defaults,
            budget: config.budget,
            disk_limits: config.disk,
            disk,
            sweep_after: config.sweep_after,
            machines,
            goldens,
            caches: Caches {
                runs: run_controller.store(),
                pools: pool_controller.store(),
                snapshots: golden_controller.store(),
            },
            lines,
            metrics: config.metrics,
            clock: config.clock,
            host: host.clone(),
            standing: keeper.standing(),
            nodes: keeper.nodes(),
            snapshots: router.snapshot_sender(),
        }));
        let mut tasks = JoinSet::new();
        tasks.spawn(drive(golden_controller, golden::reconcile, of_goldens, cx.clone()));
        tasks.spawn(drive(pool_controller, pool::reconcile, turns_of_pools, cx.clone()));
        tasks.spawn(drive(run_controller, run::reconcile, turns_of_runs, cx.clone()));
        tasks.spawn(router.route(cx.clone(), machine_queue, golden_queue, news, host));
        tasks.spawn(fence(cx.machines.clone(), keeper.standing()));
        tasks.spawn(keeper.clone().look());
        tasks.spawn(keeper.clone().renew());
        tasks.spawn(when_cached(filled.clone(), watch_host(cx.clone(), host_state)));
        tasks.spawn(when_cached(filled.clone(), watch_disk(cx.clone(), disk_state)));
        tasks.spawn(when_cached(filled, sweep(cx.clone())));
        // A host that has one reader of flows already goes without.
        if let Some(heard) = cx.machines.host().flows() {
            tasks.spawn(flows::watch(cx.clone(), heard));
        }
        Ok(Self { cx, tasks, wake_runs, keeper })
    }

    /// The known state of the host, as it changes.
    pub fn host(&self) -> watch::Receiver<HostState> {
        self.cx.host.clone()
    }

    /// Returns when another operator has this node's Lease, with the words for it. All attempts of
    /// this operator end then, and it must stop.
    pub async fn lease_lost(&self) -> String {
        let mut taken = self.keeper.taken();
        match taken.wait_for(Option::is_some).await {
            Ok(who) => who.clone().unwrap_or_default(),
            // The keeper lives as long as this operator.
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops claiming, and gives back claims that were never sent to a machine. Current runs may
    /// end by themselves; near the end of the time they are ended (`Evicted`). Then it stops. With
    /// `end_machines` no machine is left; without it, idle machines wait for the next operator.
    pub async fn stop(mut self, patience: Duration, end_machines: bool) {
        self.cx.drain();
        Router::wake_runs(&self.wake_runs, &self.cx);
        if !self.idle_within(patience.saturating_sub(EVICTION)).await {
            self.cx.evict();
            Router::wake_runs(&self.wake_runs, &self.cx);
            if !self.idle_within(patience.min(EVICTION)).await {
                tracing::warn!(
                    "some runs were not over in time; the next operator finds out what became of \
                        them"
                );
            }
        }
        self.cx.goldens.close().await;
        self.tasks.shutdown().await;
        if end_machines && !self.cx.machines.end_all(patience.min(MACHINES)).await {
            tracing::warn!("some machines could not be ended in time; the next start removes them");
        }
    }

    /// Whether no run has a machine any more.
    async fn idle_within(&self, patience: Duration) -> bool {
        let idle = async {
            while !self.cx.machines.owners().1.is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(patience, idle).await.is_ok()
    }
}

fn machines_config(config: &OperatorConfig, marker: &Marker) -> machines::Config {
    machines::Config {
        instance: config.instance.clone(),
        node: config.node.name.clone(),
        node_id: config.node.id.clone(),
        share_bytes: config.share_bytes,
        parallel: config.parallel,
        runs: config.runs.clone(),
        marker: marker.clone(),
        metrics: config.metrics.clone(),
        clock: config.clock.clone(),
        flow_recorder: FlowRecorder::new(&config.defaults.network.deny_cidrs, config.clock.clone()),
    }
}

fn goldens_config(
    config: &OperatorConfig,
    image_digest: String,
) -> Result<goldens::Config, StartError> {
    Ok(goldens::Config {
        setup_policy: policy(None, None, 0, &config.defaults, agentvm_crds::Profile::Standard)
            .map_err(StartError::Network)?,
        instance: config.instance.clone(),
        image: config.image.clone(),
        images_folder: config.images_folder.clone(),
        image_digest,
        setup_limit: Duration::from_secs(config.defaults.setup_seconds.into()),
        linger: config.linger,
        clock: config.clock.clone(),
    })
}

/// Ends the machines of earlier attempts. Idle ones hold nothing of a run.
async fn end_attempts(hv: Arc<dyn Hypervisor>) -> Result<(), HvError> {
    for machine in hv.list().await? {
        if matches!(machine.mark, Mark::None) {
            hv.destroy(&machine.record.name, Stop::Force).await?;
        }
    }
    Ok(())
}

/// Runs a controller: failures are logged and tried again, slower each time.
async fn drive<K, F>(
    controller: Controller<Guarded<K>>,
    reconcile: fn(Arc<Guarded<K>>, Arc<Context>) -> F,
    turns: Arc<Turns<K>>,
    cx: Arc<Context>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash,
    F: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let entrance = turns.clone();
    let in_turn = move |object: Arc<Guarded<K>>, cx: Arc<Context>| {
        let Some(turn) = entrance.enter(&object) else {
            return future::ready(Ok(Action::await_change())).left_future();
        };
        if let Err(malformed) = &object.0 {
            let name = object.meta().name.clone().unwrap_or_default();
            tracing::warn!(kind = %K::kind(&()), name,
                "the object can't be understood and is left alone: {}", malformed.error);
        }
        let uid = object.meta().uid.clone().unwrap_or_default();
        let work = reconcile(object, cx.clone());
        async move {
            let begin = cx.clock.instant();
            let done = work.await.inspect(|_| cx.failures.clear(&uid));
            cx.metrics.reconciled(&K::kind(&()), cx.clock.instant() - begin);
            drop(turn);
            done
        }
        .right_future()
    };
    controller
        .run(in_turn, failed, cx)
        .for_each(|done| {
            if let Err(ControllerError::ObjectNotFound(object)) = &done {
                turns.gone(object.namespace.as_deref().unwrap_or_default(), &object.name);
            }
            // A failed reconcile is logged where its retry is decided; this is a watch that broke
            // and will be resumed.
            if let Err(why @ ControllerError::QueueError(_)) = &done {
                tracing::warn!(kind = %K::kind(&()), error = why as &dyn std::error::Error,
                    "a watch was interrupted");
            }
            future::ready(())
        })
        .await;
}

#[allow(clippy::needless_pass_by_value, reason = "the controller hands it over like this")]
fn failed<K: Resource<DynamicType = ()>>(
    object: Arc<Guarded<K>>,
    why: &Error,
    cx: Arc<Context>,
) -> Action {
    let meta = object.meta();
    let name = meta.name.clone().unwrap_or_default();
    match why {
        // Another writer was faster. The watch brings the news; this timer is for the case that it
        // does not.
        Error::Conflict => return Action::requeue(Duration::from_millis(250)),
        Error::Gone => return Action::await_change(),
        _ => {}
    }
    cx.metrics.reconcile_failed(&K::kind(&()), why.label());
    let delay = cx.failures.note(meta.uid.as_deref().unwrap_or_default());
    tracing::warn!(kind = %K::kind(&()), name, error = why as &dyn std::error::Error,
        label = why.label(), "a reconcile failed; again in {delay:?}");
    Action::requeue(delay)
}

/// Starts some work when all caches are full: an object that is missing then is really gone.
async fn when_cached(filled: Filled, work: impl Future<Output = ()>) {
    filled.all(CACHES).await;
    work.await;
}
