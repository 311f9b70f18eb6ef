//! Starts all parts that a host without a cluster needs, and ends them in order.
//!
//! ```text
//! control plane ─ kinds ─┐
//! libvirtd ──────────────┴─ operator ─ ready ─ … ─ runs end ─ machines end ─┐
//!                                                 control plane, libvirtd end
//! ```

use std::path::{Path, PathBuf};

use agentvm_controlplane::{Binaries, Config as ControlPlaneConfig, ControlPlane, StoreUsage};
use agentvm_core::node::LeaseTimes;
use kube::Client;
use tokio::sync::watch;

use super::shutdown::{CONTROL_PLANE, HOST_GRACE, LIBVIRTD};
use super::{Served, install, serve};
use crate::{
    api, config::Settings, failure::Failure, guest_image::Images, metrics::Metrics,
    standalone::libvirtd::Libvirtd,
};

/// The parts to start, and their places.
#[derive(Debug)]
pub struct HostOptions<'a> {
    pub folder: &'a Path,
    pub binaries: Binaries,
    pub images: Images,
    /// Make a golden snapshot and a pool, both named `default`.
    pub default_pool: bool,
}

/// The parts that must be ended.
#[derive(Debug, Default)]
pub struct Parts {
    pub control_plane: Option<ControlPlane>,
    libvirtd: Option<Libvirtd>,
    pub served: Option<Served>,
}

/// Starts everything, and returns the path of the kubeconfig. `parts` holds all started parts, also
/// after a failure.
pub async fn start(
    options: HostOptions<'_>,
    settings: &Settings,
    parts: &mut Parts,
) -> Result<PathBuf, Failure> {
    let HostOptions { folder, binaries, images, default_pool } = options;
    let reaper_folder = folder.join("libvirt");
    let (control_plane, libvirtd) = tokio::join!(
        ControlPlane::start(ControlPlaneConfig::new(folder, binaries)),
        Libvirtd::ensure(&settings.libvirt.uri, &reaper_folder),
    );
    // Keep both results before a failure of either returns, so that `stop` ends all started parts.
    let control_plane = control_plane.map(|started| parts.control_plane.insert(started));
    let libvirtd = libvirtd.map(|found| parts.libvirtd.insert(found));
    let control_plane = control_plane.map_err(Failure::failed)?;
    libvirtd.map_err(Failure::failed)?;
    // The installation is an apply, so kube's client may repeat it. The operator's own client
    // repeats no write.
    let installer = Client::try_from(control_plane.client_config()).map_err(Failure::failed)?;
    install::kinds(&installer).await?;
    install::roles(&installer).await?;
    let client = api::client(control_plane.client_config(), api::TimeLimits::default())
        .map_err(Failure::failed)?;
    let served = serve(client, settings, &images, &folder.join("host"), LeaseTimes::ALONE).await?;
    tokio::spawn(count_store(control_plane.store_usage(), served.counters.clone()));
    parts.served.insert(served).host_ready().await;
    if default_pool {
        install::default_pool(&installer).await?;
    }
    Ok(control_plane.kubeconfig_path().to_owned())
}

/// Follows the store's size, until the control plane ends.
async fn count_store(mut usage: watch::Receiver<StoreUsage>, counters: Metrics) {
    loop {
        counters.store(*usage.borrow_and_update());
        if usage.changed().await.is_err() {
            return;
        }
    }
}

/// Ends all parts in order.
pub async fn stop(parts: Parts, folder: &Path) {
    if let Some(Served { operator, libvirt, .. }) = parts.served {
        operator.stop(HOST_GRACE, true).await;
        libvirt.release().await;
    }
    // An interrupted start may have left a libvirtd that `parts` does not hold.
    if let Some(libvirtd) =
        parts.libvirtd.or_else(|| Libvirtd::left_behind(&folder.join("libvirt")))
    {
        libvirtd.release(LIBVIRTD).await.log();
    }
    if let Some(control_plane) = parts.control_plane {
        control_plane.shutdown(CONTROL_PLANE).await;
    }
}
