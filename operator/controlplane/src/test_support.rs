//! Support for tests of this and other crates: one real control plane for each test process,
//! started at its first use.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::sync::{OnceCell, oneshot};

use crate::{Binaries, BinariesError, Config, ControlPlane, Durability, StartError};

/// `read` returns when the test process ends, because its end of the pipe closes then. `rm` runs
/// twice, because a killed process may still have written during the first run.
const JANITOR: &str = r#"read -r _
for round in 1 2 3 4 5; do
    found=
    for pid in /proc/[0-9]*; do
        pid=${pid#/proc/}
        if [ "$pid" != $$ ] && tr '\0' ' ' 2>/dev/null < /proc/$pid/cmdline | grep -qF "$1/"; then
            found=1; kill -9 "$pid" 2>/dev/null
        fi
    done
    [ -n "$found" ] || break
done
rm -rf -- "$1" || rm -rf -- "$1""#;

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
    #[error("could not make a temporary data folder")]
    Folder(#[source] io::Error),
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
        Err(why) => return drop(reply.send(Err(SharedError::Folder(why)))),
    };
    runtime.block_on(async {
        let _ = reply.send(start().await);
        // Keeps the children's tasks running until the process ends.
        std::future::pending::<()>().await;
    });
}

async fn start() -> Result<Shared, SharedError> {
    let folder = tempfile::Builder::new()
        .prefix("agentvm-test-")
        .tempdir()
        .map_err(SharedError::Folder)?
        .keep();
    remove_when_we_end(&folder).map_err(SharedError::Folder)?;
    let config = config(&folder).map_err(SharedError::Binaries)?;
    let control_plane = ControlPlane::start(config).await.map_err(SharedError::Start)?;
    Ok(Shared { control_plane })
}

/// Starts a process that waits for any end of this one. It then kills every process whose command
/// line names the folder, and removes the folder. A destructor can't do this, because statics are
/// not dropped.
pub fn remove_when_we_end(folder: &Path) -> io::Result<()> {
    use std::os::unix::process::CommandExt as _;
    let mut janitor: Child = Command::new("sh")
        .args(["-c", JANITOR, "janitor"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    std::mem::forget(janitor.stdin.take());
    Ok(())
}
