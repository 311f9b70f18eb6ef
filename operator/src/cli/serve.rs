//! What `operator` and `standalone` have in common: from settings to an operator at work, and its orderly end.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use agentvm_core::{names::InstanceId, pool::Budget};
use agentvm_hypervisor::libvirt::{Libvirt, LibvirtConfig};
use agentvm_types::NodeName;
use kube::Client;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, args::ImageArgs, guest_image};
use crate::{
    clock::Clock,
    config::{MetricsSettings, Settings},
    controllers::{HostState, Operator, OperatorConfig},
    goldens,
    metrics::{self, Metrics},
};

/// Limit of a machine's share. Sparse: it costs what is written.
const SHARE_BYTES: u64 = 2 << 30;
/// How long `standalone` waits for the host before it says that it is ready all the same.
const HOST_PATIENCE: Duration = Duration::from_mins(1);

/// A runtime for one of the two.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let done = runtime.block_on(work);
    // Blocking calls that nobody waits for any more (a libvirt that hangs) don't keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

/// SIGINT and SIGTERM, from the moment this is made.
pub struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl EndSignals {
    pub fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(Failure::failed)?,
            terminate: signal(SignalKind::terminate()).map_err(Failure::failed)?,
        })
    }

    /// Waits for the first of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => tracing::info!("interrupted: ending in order"),
            _ = self.terminate.recv() => tracing::info!("told to end: ending in order"),
        }
    }
}

/// This host's libvirt, and the operator on top of it.
pub struct Served {
    pub operator: Operator,
    pub libvirt: Libvirt,
    /// Serves `/metrics` for as long as this is kept.
    pub metrics: Option<metrics::Server>,
}

/// Connects to libvirt and starts the operator.
pub async fn serve(
    client: Client,
    settings: &Settings,
    images: &ImageArgs,
    state_dir: &Path,
) -> Result<Served, Failure> {
    let image = guest_image::find(images.image_dir.as_deref()).map_err(Failure::failed)?.dir;
    make_traversable(state_dir)?;
    let canonical = state_dir.canonicalize().map_err(Failure::failed)?;
    let instance = InstanceId::for_state_dir(&canonical.to_string_lossy());
    let (metrics, server) = listen(settings.metrics).await?;
    let config = operator_config(settings, images, instance.clone(), image.clone(), metrics);
    let libvirt = Libvirt::connect(LibvirtConfig {
        uri: settings.libvirt.uri.clone(),
        connect_timeout: settings.libvirt.connection_timeout,
        first_uid: settings.libvirt.first_uid,
        filter: settings.network.libvirt_filter,
        image: Some(image),
        ..LibvirtConfig::new(canonical, instance)
    })
    .await
    .map_err(Failure::failed)?;
    let operator =
        Operator::start(client, Arc::new(libvirt.clone()), config).map_err(Failure::failed)?;
    Ok(Served { operator, libvirt, metrics: server })
}

/// Serves metrics where it is asked for. The default address may be somebody else's: nothing stops for that.
async fn listen(settings: MetricsSettings) -> Result<(Metrics, Option<metrics::Server>), Failure> {
    let Some(address) = settings.listen else { return Ok((Metrics::off(), None)) };
    let metrics = Metrics::new().map_err(Failure::failed)?;
    match metrics::serve(address, metrics.clone()).await {
        Ok(server) => {
            tracing::info!("metrics are at http://{}/metrics", server.address);
            Ok((metrics, Some(server)))
        }
        Err(why) if settings.explicit => Err(Failure::Usage(format!(
            "metrics.listen: {address} can't be listened on: {why}; name another address, or say off"
        ))),
        Err(why) => {
            tracing::warn!(
                "there are no metrics: {address} can't be listened on: {why}; set metrics.listen \
                 (--metrics-listen) to another address, or to off"
            );
            Ok((Metrics::off(), None))
        }
    }
}

impl Served {
    /// Returns when the host is ready, or after a while with a word on why it isn't.
    pub async fn host_ready(&self) {
        let mut host = self.operator.host();
        let ready = host.wait_for(|state| matches!(state, HostState::Ready(_)));
        if tokio::time::timeout(HOST_PATIENCE, ready).await.is_err()
            && let HostState::Unknown(why) = &*host.borrow()
        {
            tracing::warn!("runs will be accepted and wait: {why}");
        }
    }
}

fn operator_config(
    settings: &Settings,
    images: &ImageArgs,
    instance: InstanceId,
    image: PathBuf,
    metrics: Metrics,
) -> OperatorConfig {
    OperatorConfig {
        clock: Clock::system(),
        instance,
        node: NodeName::new(settings.node.name.clone()),
        defaults: settings.defaults(),
        budget: Budget {
            machines: settings.node.max_machines.unwrap_or(u32::MAX),
            memory_mib: settings.node.memory_mib.into(),
        },
        share_bytes: SHARE_BYTES,
        parallel: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
        runs: settings.execution.workspace_path.join("runs"),
        image,
        images_folder: images.images_folder.clone(),
        linger: goldens::LINGER,
        metrics,
    }
}

/// Makes a folder that QEMU's user can pass through (and not list).
pub fn make_traversable(folder: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(folder);
    made.map_err(|why| {
        Failure::Usage(format!("the folder {} can't be made: {why}", folder.display()))
    })
}
