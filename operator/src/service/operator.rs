//! Makes a running operator from settings. `agentvm operator` and `agentvm standalone` both start
//! it here.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use agentvm_core::{
    names::InstanceId,
    node::LeaseTimes,
    pool::{Budget, DiskLimits, parallel_creations},
};
use agentvm_files::{Untrusted, make_trusted};
use agentvm_hypervisor::libvirt::{Libvirt, LibvirtConfig};
use agentvm_types::NodeName;
use kube::Client;

use super::open_files;
use crate::{
    clock::Clock,
    config::Settings,
    controllers::{HostState, Operator, OperatorConfig},
    failure::Failure,
    goldens,
    guest_image::{self, Images},
    metrics::{self, Metrics},
    node::{self, Node, lock::FolderLock},
};

/// Size limit of a machine's share. The file is sparse, so it takes only the space of written data.
const SHARE_BYTES: u64 = 2 << 30;
/// No folder of a run is removed before this age, whatever the lists say.
const SWEEP_AFTER: Duration = Duration::from_mins(1);
/// The longest time that `standalone` waits for the host before it reports that it is ready anyway.
const HOST_PATIENCE: Duration = Duration::from_mins(1);

/// This host's libvirt, and the operator on top of it.
#[derive(Debug)]
pub struct Served {
    pub operator: Operator,
    pub libvirt: Libvirt,
    /// Held until this is dropped: no other operator uses the state folder.
    pub lock: FolderLock,
    /// The counters behind `/metrics`.
    pub counters: Metrics,
    /// Serves `/metrics` until this is dropped.
    pub metrics: Option<metrics::Server>,
}

/// Connects to libvirt and starts the operator.
pub async fn serve(
    client: Client,
    settings: &Settings,
    images: &Images,
    state_dir: &Path,
    times: LeaseTimes,
) -> Result<Served, Failure> {
    open_files::raise();
    let lock = FolderLock::acquire(state_dir).map_err(Failure::failed)?;
    let image = guest_image::find(images.image_dir.as_deref()).map_err(Failure::failed)?.dir;
    let canonical = state_dir.canonicalize().map_err(Failure::failed)?;
    let id = node::id::load_or_draw(&canonical).map_err(Failure::failed)?;
    let name = NodeName::new(settings.node.name.clone());
    tracing::info!(node = %name, %id, "this node");
    let node = Node::here(id, name, times).map_err(Failure::failed)?;
    let instance = InstanceId::for_state_dir(&canonical.to_string_lossy());
    let (metrics, server) = metrics::listen(settings.metrics).await?;
    let counters = metrics.clone();
    let config = operator_config(
        settings,
        images,
        instance.clone(),
        image.clone(),
        metrics,
        node,
        canonical.clone(),
    );
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
    let operator = Operator::start(client, Arc::new(libvirt.clone()), config);
    let operator = operator.await.map_err(Failure::failed)?;
    Ok(Served { operator, libvirt, lock, counters, metrics: server })
}

impl Served {
    /// Returns when the host is ready. After a time limit it returns too, and logs the reason.
    pub async fn host_ready(&self) {
        let mut host = self.operator.host();
        let ready = host.wait_for(|state| matches!(state, HostState::Ready(_)));
        if tokio::time::timeout(HOST_PATIENCE, ready).await.is_err()
            && let HostState::Unknown(why) = &*host.borrow()
        {
            tracing::warn!("runs are accepted, but they wait: {why}");
        }
    }
}

fn operator_config(
    settings: &Settings,
    images: &Images,
    instance: InstanceId,
    image: PathBuf,
    metrics: Metrics,
    node: Node,
    state_dir: PathBuf,
) -> OperatorConfig {
    OperatorConfig {
        clock: Clock::system(),
        instance,
        node,
        defaults: settings.defaults(),
        budget: Budget {
            machines: settings.node.max_machines.unwrap_or(u32::MAX),
            memory_mib: settings.node.memory_mib.into(),
        },
        disk: DiskLimits {
            low_mib: settings.node.disk_low_mib.into(),
            critical_mib: settings.node.disk_critical_mib.into(),
            namespace_mib: settings.node.output_mib_per_namespace.map(u64::from),
        },
        share_bytes: SHARE_BYTES,
        parallel: parallel_creations(
            std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
        ),
        state_dir,
        runs: settings.execution.workspace_path.join("runs"),
        sweep_after: SWEEP_AFTER,
        image,
        images_folder: images.images_folder.clone(),
        linger: goldens::LINGER,
        metrics,
    }
}

/// Makes a folder that QEMU's user can enter but not list, and that no other user can change.
pub fn make_traversable(folder: &Path) -> Result<(), Failure> {
    let unusable = |why: Untrusted| match why {
        Untrusted::Io { why, .. } => {
            Failure::Usage(format!("can't make the folder {}: {why}", folder.display()))
        }
        why => Failure::Usage(why.to_string()),
    };
    make_trusted(folder, 0o711).map_err(unusable)
}
