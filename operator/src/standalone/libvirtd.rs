//! Ensures that a libvirtd answers: the host's own, or one that we start under a reaper that
//! outlives us. Its starter ends it, unless machines of other programs still need it.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Command;
use tokio::time::sleep;

use super::process::ProcessId;
use super::reaper::{self, DaemonSpec, ReaperFiles, ReaperState};
use super::run_folder;
use crate::clock::Clock;

/// The only libvirt that we start. Any other one runs elsewhere, or starts on its own.
pub const SYSTEM_URI: &str = "qemu:///system";
/// The sockets of libvirtd, and of the daemon that newer hosts run in its place.
const SOCKETS: [&str; 2] = ["/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"];
pub const VIRTLOGD_SOCKET: &str = "/run/libvirt/virtlogd-sock";
/// libvirt's QEMU driver keeps the pid of each machine's process here.
const MACHINES: &str = "/run/libvirt/qemu";
pub const RUN_FOLDER: &str = "/run/libvirt";
/// Folders of daemons, which an ordinary user's PATH lacks.
const SYSTEM_FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"];
const POLL: Duration = Duration::from_millis(25);
const UP_WITHIN: Duration = Duration::from_secs(30);

/// The owner of the libvirtd that answers.
#[derive(Debug)]
pub enum Libvirtd {
    /// Another program: the libvirtd ran before us, or it runs elsewhere.
    Found,
    /// Our reaper. This process started it, or an earlier process on this data folder.
    Ours { reaper: ProcessId, resumed: bool },
}

/// The result of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    /// It isn't ours to end.
    NotOurs,
    /// It has ended.
    Ended,
    /// It keeps running, because these machines use it.
    LeftRunning { machines: Vec<String> },
    /// It got a signal and has not ended yet.
    StillEnding { reaper: i32 },
}

impl Released {
    /// Says in the log why libvirtd still runs, if it is ours and does.
    pub fn log(&self) {
        match self {
            Self::NotOurs | Self::Ended => {}
            Self::LeftRunning { machines } => tracing::warn!(
                "libvirtd keeps running, because {} machines of other programs use it",
                machines.len()
            ),
            Self::StillEnding { reaper } => {
                tracing::warn!(reaper, "libvirtd has not ended yet");
            }
        }
    }
}

/// No libvirtd answers, and we could not start one.
#[derive(Debug, thiserror::Error)]
pub enum LibvirtdError {
    #[error(
        "no libvirtd answers at {SYSTEM_URI}, and only root may start one; start it (systemctl \
         enable --now libvirtd), or run as root"
    )]
    NotRoot,
    #[error("this user may not use {}; add it to the group libvirt (usermod -aG libvirt,kvm USER) \
             and log in again", socket.display())]
    NoAccess { socket: PathBuf },
    #[error(
        "no libvirtd answers at {SYSTEM_URI}, and {program} isn't installed; install \
         libvirt-daemon-system (make packages)"
    )]
    Missing { program: &'static str },
    #[error("could not start the reaper in {}", state_dir.display())]
    Reaper {
        state_dir: PathBuf,
        #[source]
        why: io::Error,
    },
    #[error("libvirtd didn't answer {} s after its start; see the logs \
             in {}", UP_WITHIN.as_secs(), state_dir.display())]
    NotUp { state_dir: PathBuf },
}

impl Libvirtd {
    /// Ensures that a libvirtd answers at `uri`. `state_dir` is the reaper's folder,
    /// `DATA_DIR/libvirt`.
    pub async fn ensure(uri: &str, state_dir: &Path) -> Result<Self, LibvirtdError> {
        Self::ensure_with(uri, state_dir, Path::new("/proc/self/exe")).await
    }

    /// Like [`Self::ensure`], with another program than our own for the subcommand `__reaper`.
    pub async fn ensure_with(
        uri: &str,
        state_dir: &Path,
        agentvm: &Path,
    ) -> Result<Self, LibvirtdError> {
        if uri != SYSTEM_URI {
            return Ok(Self::Found);
        }
        let state_dir = std::path::absolute(state_dir)
            .map_err(|why| LibvirtdError::Reaper { state_dir: state_dir.to_owned(), why })?;
        let files = ReaperFiles::new(&state_dir);
        if let Some(ReaperState { reaper, .. }) = files.living() {
            // The reaper restarts daemons that died, so waiting is enough.
            until_up(&files).await?;
            return Ok(Self::Ours { reaper, resumed: true });
        }
        if anyone_answers()? {
            return Ok(Self::Found);
        }
        if !rustix::process::geteuid().is_root() {
            return Err(LibvirtdError::NotRoot);
        }
        let daemons = [
            daemon("virtlogd", program("virtlogd")?, VIRTLOGD_SOCKET),
            daemon("libvirtd", program("libvirtd")?, SOCKETS[0]),
        ];
        // A mount would hide libvirt's files about running machines.
        if running_machines(Path::new(MACHINES)).is_empty() {
            run_folder::keep_in_memory(Path::new(RUN_FOLDER));
        }
        start_reaper(&files, &daemons, agentvm)
            .await
            .map_err(|why| LibvirtdError::Reaper { state_dir: state_dir.clone(), why })?;
        let reaper = until_up(&files).await?;
        Ok(Self::Ours { reaper, resumed: false })
    }

    /// The libvirtd that an earlier process on this data folder, or an interrupted start, left
    /// running.
    pub fn left_behind(state_dir: &Path) -> Option<Self> {
        let state = ReaperFiles::new(state_dir).living()?;
        Some(Self::Ours { reaper: state.reaper, resumed: true })
    }

    /// Ends the libvirtd that we started, unless machines still run on it. Our machines are gone by
    /// now, so these belong to other programs.
    pub async fn release(self, deadline: Duration) -> Released {
        let Self::Ours { reaper, .. } = self else { return Released::NotOurs };
        let machines = running_machines(Path::new(MACHINES));
        if !machines.is_empty() {
            return Released::LeftRunning { machines };
        }
        reaper.signal(Signal::TERM);
        let clock = Clock::system();
        let began = clock.instant();
        while reaper.is_alive() {
            if clock.instant() - began > deadline {
                return Released::StillEnding { reaper: reaper.pid };
            }
            sleep(POLL).await;
        }
        run_folder::give_back(Path::new(RUN_FOLDER));
        Released::Ended
    }
}

fn daemon(name: &str, program: PathBuf, socket: &str) -> DaemonSpec {
    DaemonSpec { name: name.into(), program, args: Vec::new(), socket: Some(socket.into()) }
}

fn program(name: &'static str) -> Result<PathBuf, LibvirtdError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or(LibvirtdError::Missing { program: name })
}

async fn start_reaper(
    files: &ReaperFiles,
    daemons: &[DaemonSpec],
    agentvm: &Path,
) -> io::Result<()> {
    files.write_daemons(daemons)?;
    // This process ends when it has started the detached reaper.
    let status = Command::new(agentvm)
        .args([reaper::SUBCOMMAND, reaper::STATE_DIR_FLAG])
        .arg(files.folder())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .await?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{} ended: {status}", agentvm.display())))
    }
}

async fn until_up(files: &ReaperFiles) -> Result<ProcessId, LibvirtdError> {
    let clock = Clock::system();
    let began = clock.instant();
    loop {
        if let (Some(state), true) = (files.living(), anyone_answers()?) {
            return Ok(state.reaper);
        }
        if clock.instant() - began > UP_WITHIN {
            return Err(LibvirtdError::NotUp { state_dir: files.folder().to_owned() });
        }
        sleep(POLL).await;
    }
}

/// Whether a libvirtd accepts our connection. The socket file of a dead one refuses it.
pub fn anyone_answers() -> Result<bool, LibvirtdError> {
    for socket in SOCKETS {
        match UnixStream::connect(socket) {
            Ok(_) => return Ok(true),
            Err(why) if why.kind() == io::ErrorKind::PermissionDenied => {
                return Err(LibvirtdError::NoAccess { socket: socket.into() });
            }
            Err(_) => {}
        }
    }
    Ok(false)
}

/// The names of the machines whose process lives.
fn running_machines(folder: &Path) -> Vec<String> {
    let alive = |path: &Path| {
        let pid = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
        pid.is_some_and(|pid| ProcessId::of(pid).is_ok())
    };
    let entries =
        fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "pid") && alive(path))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        // The driver's own lock file has the same extension.
        .filter(|name| name != "driver")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_machines_whose_process_lives_are_running() {
        let dir = tempfile::tempdir().unwrap();
        let own = std::process::id().to_string();
        fs::write(dir.path().join("busy.pid"), &own).unwrap();
        fs::write(dir.path().join("dead.pid"), "2147483646").unwrap();
        fs::write(dir.path().join("busy.xml"), &own).unwrap();
        fs::write(dir.path().join("driver.pid"), &own).unwrap();
        assert_eq!(running_machines(dir.path()), ["busy"]);
        assert!(running_machines(&dir.path().join("missing")).is_empty());
    }

    #[tokio::test]
    async fn a_libvirt_elsewhere_is_nobodys_to_start_or_end() {
        let dir = tempfile::tempdir().unwrap();
        let found = Libvirtd::ensure("qemu+tls://elsewhere/system", dir.path()).await.unwrap();
        assert_eq!(found.release(Duration::ZERO).await, Released::NotOurs);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
