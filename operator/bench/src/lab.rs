//! The host of a bench: a temporary folder, a libvirtd under our reaper if none ran, and goldens
//! that are captured like the product's. No part of it stays after any end of the bench.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentvm_controlplane::Binaries;
use agentvm_core::golden::DeviceLayout;
use agentvm_core::golden::{Local, Recipe, SourceKind, Step};
use agentvm_core::names::{DomainName, InstanceId};
use agentvm_core::network::policy;
use agentvm_crds::{NetworkMode, Profile};
use agentvm_hypervisor::libvirt::{Baseline, Libvirt, LibvirtConfig};
use agentvm_hypervisor::{Accelerator, Golden, HostFacts, Hypervisor, Resources, Stop};
use agentvm_types::OwnerUid;
use kube::Client;
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::error::{BenchError, step};
use super::folder::Throwaway;
use super::full::Full;
use crate::args::{BenchNetwork, Common};
use agentvm_operator::clock::Clock;
use agentvm_operator::config::Settings;
use agentvm_operator::goldens::{self, Goldens, Owner, Wanted};
use agentvm_operator::guest_image::Images;
use agentvm_operator::network::{Attachment, Network};
use agentvm_operator::service::{self, HostOptions};
use agentvm_operator::standalone::libvirtd::Libvirtd;

/// The owner of a bench's machines.
pub const OWNER: &str = "bench";

/// A host to measure on.
pub struct Lab {
    pub libvirt: Libvirt,
    pub hv: Arc<dyn Hypervisor>,
    pub facts: HostFacts,
    pub instance: InstanceId,
    pub folder: PathBuf,
    pub image: PathBuf,
    pub network: Network,
    attached: BenchNetwork,
    ours: bool,
    goldens: Goldens,
    events: AsyncMutex<mpsc::UnboundedReceiver<OwnerUid>>,
    baselines: Mutex<Vec<Baseline>>,
    /// The whole product, with its folder.
    parts: AsyncMutex<Option<(PathBuf, service::Parts)>>,
}

/// The size of a bench's machine.
pub fn size(memory_mib: u32) -> Resources {
    Resources { vcpus: 1, memory_mib, disk_gib: 4, cpu_shares: 1024 }
}

impl Lab {
    /// `image` is the folder of the guest image.
    pub async fn start(
        settings: &Settings,
        network: BenchNetwork,
        image: PathBuf,
        folder: &Throwaway,
    ) -> Result<Arc<Self>, BenchError> {
        let libvirtd = Libvirtd::ensure(&settings.libvirt.uri, &folder.libvirt()).await;
        let ours =
            matches!(libvirtd.map_err(step("find or start a libvirtd"))?, Libvirtd::Ours { .. });
        let state_dir = folder.host();
        let instance = InstanceId::for_state_dir(&state_dir.to_string_lossy());
        let libvirt = Libvirt::connect(LibvirtConfig {
            uri: settings.libvirt.uri.clone(),
            connect_timeout: settings.libvirt.connection_timeout,
            image: Some(image.clone()),
            ..LibvirtConfig::new(state_dir, instance.clone())
        })
        .await
        .map_err(step("use libvirt"))?;
        let hv: Arc<dyn Hypervisor> = Arc::new(libvirt.clone());
        let facts = hv.facts().await.map_err(step("look at the host"))?;
        let (sender, events) = mpsc::unbounded_channel();
        let defaults = settings.defaults();
        let setup_policy = policy(None, None, 0, &defaults, Profile::Standard)
            .map_err(step("use the network that is configured"))?;
        let image_digest = goldens::image_digest(&image).map_err(step("use the guest image"))?;
        let config = goldens::Config {
            clock: Clock::system(),
            instance: instance.clone(),
            image: image.clone(),
            images_folder: None,
            image_digest,
            setup_policy: setup_policy.clone(),
            setup_limit: Duration::from_secs(defaults.setup_seconds.into()),
            linger: goldens::LINGER,
        };
        let machines_network =
            Network::new(hv.clone(), instance.clone(), defaults.network.deny_cidrs);
        if network == BenchNetwork::Nat {
            machines_network
                .set_policy(&OwnerUid::new(OWNER), setup_policy)
                .await
                .map_err(step("set the rules of machines"))?;
        }
        Ok(Arc::new(Self {
            goldens: Goldens::new(hv.clone(), machines_network.clone(), config, sender),
            network: machines_network,
            attached: network,
            libvirt,
            hv,
            facts,
            instance,
            folder: folder.path().to_owned(),
            image,
            ours,
            events: AsyncMutex::new(events),
            baselines: Mutex::default(),
            parts: AsyncMutex::default(),
        }))
    }

    /// The devices of measured machines.
    fn layout(&self) -> DeviceLayout {
        match self.attached {
            BenchNetwork::Nat => DeviceLayout::Nic,
            BenchNetwork::Isolated => DeviceLayout::Isolated,
        }
    }

    /// The attachment of measured machines.
    pub fn attachment(&self) -> Attachment {
        match self.attached {
            BenchNetwork::Nat => Attachment::Nat,
            BenchNetwork::Isolated => Attachment::Isolated,
        }
    }

    /// The network mode, in the form of a pool.
    fn mode(&self) -> NetworkMode {
        match self.attached {
            BenchNetwork::Nat => NetworkMode::NatFiltered,
            BenchNetwork::Isolated => NetworkMode::Isolated,
        }
    }

    /// Captures a golden of this size. `setup` runs in it before the capture.
    pub async fn golden(&self, memory_mib: u32, setup: Vec<Step>) -> Result<Golden, BenchError> {
        let recipe = Recipe {
            source: SourceKind::Debian,
            size: size(memory_mib),
            steps: setup,
            setup_network: agentvm_crds::SetupNetworkMode::Isolated,
        };
        let key = self.goldens.key(&recipe, self.layout(), &self.facts);
        let owner = Owner {
            namespace: "bench".to_owned(),
            name: format!("{memory_mib}mib"),
            uid: OwnerUid::new(key.as_str()),
        };
        let mut events = self.events.lock().await;
        self.goldens.capture(owner, Wanted { recipe, layout: self.layout(), key: key.clone() });
        loop {
            match self.goldens.local(&key, "bench") {
                Local::Ready => break,
                Local::Failed { message, .. } => {
                    return Err(BenchError::Found(format!(
                        "the golden of {memory_mib} MiB: {message}"
                    )));
                }
                Local::Absent | Local::Queued | Local::Capturing { .. } => {}
            }
            if events.recv().await.is_none() {
                break;
            }
        }
        self.goldens
            .get(&key)
            .ok_or_else(|| BenchError::Found("the golden is missing after its capture".to_owned()))
    }

    /// An ordinary domain for comparison. It is removed with the lab.
    pub fn baseline(&self, name: &str, memory_mib: u32) -> Baseline {
        let name = DomainName::from_recorded(format!("avm-{}-{name}", self.instance));
        let baseline = Baseline::new(&self.libvirt, name, self.image.clone(), size(memory_mib));
        self.baselines.lock().unwrap_or_else(PoisonError::into_inner).push(baseline.clone());
        baseline
    }

    /// Starts the whole product, like `agentvm standalone`. It ends with the lab.
    pub async fn product(&self, common: &Common, settings: &Settings) -> Result<Full, BenchError> {
        let folder = self.folder.join("all");
        std::fs::create_dir(&folder).map_err(step("make a folder for the product"))?;
        std::fs::set_permissions(&folder, Permissions::from_mode(0o711))
            .map_err(step("open the folder to QEMU"))?;
        let mut settings = settings.clone();
        settings.execution.workspace_path = folder.join("workspace");
        let binaries = Binaries::find(common.control_plane_dir.as_deref())
            .map_err(step("find a control plane"))?;
        let options = HostOptions {
            folder: &folder,
            binaries,
            images: Images { image_dir: Some(self.image.clone()), images_folder: None },
            default_pool: false,
        };
        // `parts` holds every started part from its start on, so that it is ended after a failure
        // too.
        let mut parts = self.parts.lock().await;
        let (_, parts) = parts.insert((folder.clone(), service::Parts::default()));
        let started = service::start(options, &settings, parts).await;
        started.map_err(step("start the product"))?;
        let control_plane = parts.control_plane.as_ref();
        let config = control_plane
            .ok_or_else(|| BenchError::Found("there is no control plane".to_owned()))?;
        let metrics = parts
            .served
            .as_ref()
            .and_then(|served| served.metrics.as_ref())
            .map(|server| server.address);
        Ok(Full::new(
            Client::try_from(config.client_config()).map_err(step("make a client"))?,
            metrics,
            self.mode(),
        ))
    }

    /// Facts about the host, for the report.
    pub fn host(&self) -> Map<String, Value> {
        let HostFacts {
            qemu_version,
            libvirt_version,
            kernel_version,
            cpu_model,
            cpus,
            memory_mib,
            ..
        } = &self.facts;
        let accelerator = match &self.facts.accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg { .. } => "tcg",
        };
        let libvirtd = if self.ours { "under agentvm's reaper" } else { "found running" };
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let (version, commit) =
            (agentvm_operator::version::VERSION, agentvm_operator::version::COMMIT);
        let fields = json!({
            "agentvm": format!("{version} ({commit}, {build})"),
            "accelerator": accelerator,
            "cpu": cpu_model,
            "cpus": cpus,
            "memoryMiB": memory_mib,
            "qemu": qemu_version,
            "libvirt": libvirt_version,
            "libvirtd": libvirtd,
            "kernel": kernel_version,
            "layout": self.layout().as_str(),
        });
        if let Value::Object(fields) = fields { fields } else { Map::new() }
    }

    /// A fact about this host that spoils a comparison.
    pub fn caveat(&self) -> Option<String> {
        let said = "libvirtd was running before: if process 1 reaps slowly (in containers without \
                    an init), every way that ends a QEMU process looks slower than under agentvm's \
                    reaper; stop that libvirtd for comparable figures";
        (!self.ours).then(|| said.to_owned())
    }

    /// Ends all measured parts, and frees their disk space.
    pub async fn stop(&self) {
        if let Some((folder, parts)) = self.parts.lock().await.take() {
            service::stop(parts, &folder).await;
        }
        self.goldens.close().await;
        self.clear().await;
        self.libvirt.release().await;
    }

    /// Ends all machines.
    pub async fn clear(&self) {
        let baselines =
            std::mem::take(&mut *self.baselines.lock().unwrap_or_else(PoisonError::into_inner));
        for baseline in baselines {
            if let Err(why) = baseline.remove().await {
                let error = &why as &dyn std::error::Error;
                tracing::warn!(domain = %baseline.name(), error, "could not remove the domain");
            }
        }
        for machine in self.hv.list().await.unwrap_or_default() {
            if let Err(why) = self.hv.destroy(&machine.record.name, Stop::Force).await {
                let (name, error) = (&machine.record.name, &why as &dyn std::error::Error);
                tracing::warn!(machine = %name, error, "could not remove the machine");
            }
        }
    }
}
