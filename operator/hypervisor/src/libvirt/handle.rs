//! The handle on a host's libvirt: three lanes for calls, and the machines' channels.
//!
//! There are three thread pools, so that slow work never delays fast work: builds (create,
//! destroy), resets, and claims (resume, pause, state). A claim waits for neither of the others.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentvm_core::names::DomainName;
use agentvm_core::network::Link;
use tokio::sync::Semaphore;
use virt::connect::Connect;

use super::connection::config::LibvirtConfig;
use super::connection::lanes::{CLAIM_WORKERS, Lane, RESET_WORKERS, Wanted};
use super::host::state::Host;
use super::machine::links;
use super::qemu::channel::Channels;
use super::reset::golden_caches::GoldenCaches;
use crate::workspace::budget::PARALLEL_COLLECTIONS;
use crate::workspace::share;
use crate::{HostApi, HvError, MachineApi, PowerState};

/// The host's libvirt.
#[derive(Clone, Debug)]
pub struct Libvirt {
    pub(super) host: Arc<Host>,
    pub(super) caches: Arc<GoldenCaches>,
    pub(super) builds: Arc<Lane>,
    pub(super) resets: Arc<Lane>,
    pub(super) claims: Arc<Lane>,
    pub(super) channels: Arc<Channels>,
    /// The places for copies of output.
    pub(super) collections: Arc<Semaphore>,
}

impl Libvirt {
    /// Prepares the state directory and waits until libvirt answers, at most `connect_timeout`.
    pub async fn connect(config: LibvirtConfig) -> Result<Self, HvError> {
        let (uri, workers, within) = (config.uri.clone(), config.workers, config.connect_timeout);
        let host = blocking("prepare the state directory", move || Host::prepare(config)).await?;
        let lane = |name, threads| {
            let started = Lane::start(name, &uri, threads).map(Arc::new);
            started.map_err(|source| HvError::Io {
                what: "start the libvirt threads".to_owned(),
                source,
            })
        };
        let (builds, resets, claims) =
            (lane("build", workers)?, lane("reset", RESET_WORKERS)?, lane("claim", CLAIM_WORKERS)?);
        let libvirt = Self {
            host: Arc::new(host),
            caches: Arc::default(),
            builds,
            resets,
            claims,
            channels: Arc::default(),
            collections: Arc::new(Semaphore::new(PARALLEL_COLLECTIONS)),
        };
        libvirt.wait_healthy(within).await?;
        Ok(libvirt)
    }

    async fn wait_healthy(&self, within: Duration) -> Result<(), HvError> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            match self.health().await {
                Err(e) if e.is_transient() && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                done => return done,
            }
        }
    }

    /// Where this installation keeps its files.
    pub fn state_dir(&self) -> &Path {
        self.host.folder.root()
    }

    /// Waits until a machine's state satisfies `wanted`. Returns that state, or an error when
    /// `within` has passed.
    pub async fn wait_for(
        &self,
        name: &DomainName,
        within: Duration,
        wanted: impl Fn(&PowerState) -> bool + Send,
    ) -> Result<PowerState, HvError> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let state = self.state(name).await?;
            if wanted(&state) {
                return Ok(state);
            }
            if tokio::time::Instant::now() > deadline {
                let what = format!("the wait for machine {name}, which is {state:?},");
                return Err(HvError::OutcomeUnknown { what, seconds: within.as_secs() });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Gives back the host's resources besides files: mounts, and the network when no machine is
    /// left. For the end of a test or an uninstall.
    pub async fn release(&self) {
        if let Err(error) = self
            .build("remove the machines' network", self.host.config.start_timeout, links::release)
            .await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "the machines' network stays");
        }
        let host = Arc::clone(&self.host);
        let _ = blocking("release the state directory", move || {
            share::stop_propagating(&host.folder.machines());
            Ok(())
        })
        .await;
    }

    pub(super) async fn build<T: Send + 'static>(
        &self,
        what: &str,
        deadline: Duration,
        job: impl FnOnce(&Host, &Connect) -> Result<T, HvError> + Send + 'static,
    ) -> Result<T, HvError> {
        let host = Arc::clone(&self.host);
        self.builds.call(what, deadline, move |conn, _| job(&host, conn)).await
    }

    /// Like [`Self::build`], for jobs that wait for others first and must not begin when their
    /// caller is gone.
    pub(super) async fn build_if<T: Send + 'static>(
        &self,
        what: &str,
        deadline: Duration,
        job: impl FnOnce(&Host, &Connect, Wanted<'_>) -> Result<T, HvError> + Send + 'static,
    ) -> Result<T, HvError> {
        let host = Arc::clone(&self.host);
        self.builds.call(what, deadline, move |conn, wanted| job(&host, conn, wanted)).await
    }

    pub(super) async fn claim<T: Send + 'static>(
        &self,
        what: &str,
        job: impl FnOnce(&Host, &Connect) -> Result<T, HvError> + Send + 'static,
    ) -> Result<T, HvError> {
        let host = Arc::clone(&self.host);
        self.claims.call(what, self.host.config.call_timeout, move |conn, _| job(&host, conn)).await
    }

    /// `None` means that the machine has no network device. libvirt is asked only for a machine
    /// that this process has not seen yet.
    pub(super) async fn link(&self, name: &DomainName) -> Result<Option<Link>, HvError> {
        if self.host.firewall.machines().contains(name) {
            return Ok(self.host.firewall.machines().link(name));
        }
        let wanted = name.clone();
        self.claim("look for a machine's network device", move |host, conn| {
            links::look(host, conn, &wanted)
        })
        .await
    }

    pub(super) fn share(&self, name: &DomainName) -> Result<PathBuf, HvError> {
        let share = self.host.folder.machine(name).share();
        if share.is_dir() { Ok(share) } else { Err(HvError::NoSuchMachine(name.clone())) }
    }
}

/// File work, off the runtime.
pub async fn blocking<T: Send + 'static>(
    what: &str,
    job: impl FnOnce() -> Result<T, HvError> + Send + 'static,
) -> Result<T, HvError> {
    let done = tokio::task::spawn_blocking(job).await;
    done.map_err(HvError::failed(what))?
}
