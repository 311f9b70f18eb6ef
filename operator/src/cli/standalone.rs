//! `agentvm standalone`: one host with nothing on it becomes one that takes runs.
//!
//! ```text
//! lock DIR ─┬─ control plane ─ kinds ─┐
//!           └─ libvirtd ──────────────┴─ operator ─ "ready: …" ─ signal ─ runs end ─ machines end ─ libvirtd, control plane end
//! ```

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use agentvm_controlplane::{Binaries, Config as ControlPlaneConfig, ControlPlane};
use kube::Client;

use super::{
    Failure, GlobalArgs, StandaloneArgs, install, print,
    serve::{EndSignals, Served, block_on, make_traversable, serve},
};
use crate::{
    config::Settings,
    standalone::{
        libvirtd::{Libvirtd, Released},
        lock::DataDirLock,
    },
};

/// How long runs that are under way get, and after them the machines. With all else it stays below 20 s.
const GRACE: Duration = Duration::from_secs(10);
const LIBVIRTD: Duration = Duration::from_secs(6);
const CONTROL_PLANE: Duration = Duration::from_secs(5);

pub fn run(args: &StandaloneArgs, global: &GlobalArgs) -> Result<ExitCode, Failure> {
    let mut flags = args.settings.flags(global);
    flags.default_workspace = Some(args.data_dir.join("workspace"));
    let settings = crate::config::load(&flags)?.settings;
    let binaries = Binaries::find(args.control_plane_dir.as_deref()).map_err(Failure::failed)?;
    make_traversable(&args.data_dir)?;
    let folder = args.data_dir.canonicalize().map_err(Failure::failed)?;
    let lock = DataDirLock::acquire(&folder).map_err(Failure::failed)?;
    if let Some(pid) = lock.left_by() {
        tracing::info!(pid, "the last process on this folder did not end in order: taking over");
    }
    block_on(live(args, &settings, binaries, &folder))
}

/// All that is to be ended in the end.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) control_plane: Option<ControlPlane>,
    libvirtd: Option<Libvirtd>,
    pub(crate) served: Option<Served>,
}

async fn live(
    args: &StandaloneArgs,
    settings: &Settings,
    binaries: Binaries,
    folder: &Path,
) -> Result<ExitCode, Failure> {
    let mut end = EndSignals::new()?;
    let mut parts = Parts::default();
    let started = tokio::select! {
        started = start(args, settings, binaries, folder, &mut parts) => started,
        () = end.next() => Ok(None),
    };
    if let Ok(Some(kubeconfig)) = &started {
        print(&format!("ready: export KUBECONFIG={}\n", kubeconfig.display()))?;
        end.next().await;
    }
    stop(parts, folder).await;
    started.map(|_| ExitCode::SUCCESS)
}

pub(crate) async fn start(
    args: &StandaloneArgs,
    settings: &Settings,
    binaries: Binaries,
    folder: &Path,
    parts: &mut Parts,
) -> Result<Option<PathBuf>, Failure> {
    let reaper_folder = folder.join("libvirt");
    let (control_plane, libvirtd) = tokio::join!(
        ControlPlane::start(ControlPlaneConfig::new(folder, binaries)),
        Libvirtd::ensure(&settings.libvirt.uri, &reaper_folder),
    );
    // Both are kept before either's failure is looked at: what was started is ended.
    let control_plane = control_plane.map(|started| parts.control_plane.insert(started));
    let libvirtd = libvirtd.map(|found| parts.libvirtd.insert(found));
    let control_plane = control_plane.map_err(Failure::failed)?;
    libvirtd.map_err(Failure::failed)?;
    let client = Client::try_from(control_plane.client_config()).map_err(Failure::failed)?;
    install::kinds(&client).await?;
    let served = serve(client.clone(), settings, &args.images, &folder.join("host")).await?;
    parts.served.insert(served).host_ready().await;
    if args.default_pool {
        install::default_pool(&client).await?;
    }
    Ok(Some(control_plane.kubeconfig_path().to_owned()))
}

pub(crate) async fn stop(parts: Parts, folder: &Path) {
    if let Some(Served { operator, libvirt, .. }) = parts.served {
        operator.stop(GRACE, true).await;
        libvirt.release().await;
    }
    // A start that was broken off may have left one that nobody holds.
    if let Some(libvirtd) =
        parts.libvirtd.or_else(|| Libvirtd::left_behind(&folder.join("libvirt")))
    {
        match libvirtd.release(LIBVIRTD).await {
            Released::NotOurs | Released::Ended => {}
            Released::LeftRunning { machines } => {
                tracing::warn!("libvirtd goes on: {} machines of others run on it", machines.len());
            }
            Released::StillEnding { reaper } => {
                tracing::warn!(reaper, "libvirtd has not ended yet")
            }
        }
    }
    if let Some(control_plane) = parts.control_plane {
        control_plane.shutdown(CONTROL_PLANE).await;
    }
}
