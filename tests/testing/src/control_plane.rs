//! One real control plane for each test process, started at its first use.

use std::io;
use std::path::Path;

use agentvm_controlplane::{Binaries, BinariesError, Config, ControlPlane, Durability, StartError};
use tokio::sync::{OnceCell, oneshot};

use crate::scratch;

/// A control plane that all tests of a process share. Each test uses namespaces of its own.
#[derive(Debug)]
pub struct Shared {
    control_plane: ControlPlane,
}

impl Shared {
    /// A client for the caller's runtime, as administrator. Tests must not share it: its
    /// connections belong to the runtime that made them, and end with that runtime.
    pub fn client(&self) -> Result<kube::Client, kube::Error> {
        kube::Client::try_from(self.control_plane.client_config())
    }

    /// For kubectl and other programs.
    pub fn kubeconfig_path(&self) -> &Path {
        self.control_plane.kubeconfig_path()
    }
}

/// The shared control plane could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    #[error("could not start the runtime of the shared control plane")]
    Runtime(#[source] io::Error),
    #[error("tests run on a real control plane")]
    Binaries(#[source] BinariesError),
    #[error("could not start the shared control plane")]
    Start(#[source] StartError),
    #[error("the thread of the shared control plane ended")]
    Gone,
}

/// The shared control plane. It ends with the process, and then its data is removed.
pub async fn shared() -> Result<&'static Shared, SharedError> {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED.get_or_try_init(on_its_own_thread).await
}

/// A control plane for one test that changes the cluster itself. It also ends with the process.
pub async fn private() -> Result<&'static Shared, SharedError> {
    Ok(Box::leak(Box::new(on_its_own_thread().await?)))
}

/// Starts a control plane in a runtime of its own, because the runtime of a test ends with that
/// test.
async fn on_its_own_thread() -> Result<Shared, SharedError> {
    let (reply, started) = oneshot::channel();
    std::thread::spawn(move || run(reply));
    started.await.map_err(|_| SharedError::Gone)?
}

/// The configuration of a test's own control plane: any ports, and no syncs to the disk.
pub fn config(data_dir: &Path) -> Result<Config, BinariesError> {
    let usual = Config::new(data_dir, Binaries::find(None)?);
    Ok(Config { preferred_port: None, durability: Durability::UnsafeNoFsync, ..usual })
}

fn run(reply: oneshot::Sender<Result<Shared, SharedError>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return drop(reply.send(Err(SharedError::Runtime(why)))),
    };
    runtime.block_on(async {
        let _ = reply.send(start().await);
        // Keeps the children's tasks running until the process ends.
        std::future::pending::<()>().await;
    });
}

async fn start() -> Result<Shared, SharedError> {
    let config = config(&scratch()).map_err(SharedError::Binaries)?;
    let control_plane = ControlPlane::start(config).await.map_err(SharedError::Start)?;
    Ok(Shared { control_plane })
}
