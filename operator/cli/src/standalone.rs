//! `agentvm standalone`: makes a host without a cluster execute runs.
//!
//! ```text
//! lock DIR ─┬─ control plane ─ kinds ─┐
//!           └─ libvirtd ──────────────┴─ operator ─ "ready: …" ─ signal ─ runs end ─ machines end
//!                                             ─ libvirtd, control plane end
//! ```

use std::process::ExitCode;

use agentvm_controlplane::Binaries;
use agentvm_operator::config::{self, Settings};
use agentvm_operator::node::lock::FolderLock;
use agentvm_operator::service::{
    EndSignals, HostOptions, Parts, block_on, make_traversable, start, stop,
};

use super::{Failure, GlobalArgs, StandaloneArgs, print};

pub fn run(args: &StandaloneArgs, global: &GlobalArgs) -> Result<ExitCode, Failure> {
    let mut flags = args.settings.flags(global.config.as_deref());
    flags.default_workspace = Some(args.data_dir.join("workspace"));
    let settings = config::load(&flags)?.settings;
    let binaries = Binaries::find(args.control_plane_dir.as_deref()).map_err(Failure::failed)?;
    make_traversable(&args.data_dir)?;
    let folder = args.data_dir.canonicalize().map_err(Failure::failed)?;
    let lock = FolderLock::acquire(&folder).map_err(Failure::failed)?;
    if let Some(pid) = lock.left_by() {
        tracing::info!(pid, "the last process on this folder did not end in order; taking over");
    }
    let options = HostOptions {
        folder: &folder,
        binaries,
        images: args.images.clone().into(),
        default_pool: args.default_pool,
    };
    block_on(live(options, &settings))
}

async fn live(options: HostOptions<'_>, settings: &Settings) -> Result<ExitCode, Failure> {
    let folder = options.folder;
    let mut end = EndSignals::new()?;
    let mut parts = Parts::default();
    let started = tokio::select! {
        started = start(options, settings, &mut parts) => started.map(Some),
        () = end.next() => Ok(None),
    };
    if let Ok(Some(kubeconfig)) = &started {
        print(&format!("ready: export KUBECONFIG={}\n", kubeconfig.display()))?;
        end.next().await;
    }
    stop(parts, folder).await;
    started.map(|_| ExitCode::SUCCESS)
}
