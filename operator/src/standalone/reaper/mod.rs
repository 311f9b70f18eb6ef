//! `agentvm __reaper`: a process that outlives the one that started it, and that every QEMU is a descendant of.
//!
//! It starts daemons, keeps them running, and takes over whatever loses its parent: a QEMU that ended is gone at
//! once then, where the host's own init may take seconds, for which libvirt waits (host facts, trap 3). It ends on
//! SIGTERM, its daemons before it, in the reverse of their order; what the daemons started is left alone.
//!
//! ```text
//!  standalone ─► __reaper ─► __reaper --detached ──► daemon, daemon     (children)
//!   (writes       (ends      (session of its own)└─► QEMU, QEMU         (adopted)
//!    daemons.json) at once)
//! ```

mod daemon;
mod files;
mod supervise;

use std::error::Error;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

pub use daemon::DaemonSpec;
pub use files::{ReaperFiles, ReaperState};

/// The hidden subcommand's name, and its arguments'.
pub const SUBCOMMAND: &str = "__reaper";
pub const STATE_DIR_FLAG: &str = "--state-dir";
const DETACHED_FLAG: &str = "--detached";

/// What the hidden subcommand does. Without `detached` it starts itself again and ends, so that the reaper isn't a
/// child of the one that asked for it.
pub fn main(state_dir: &Path, detached: bool) -> ExitCode {
    let files = ReaperFiles::new(state_dir);
    let outcome = if detached { run(&files) } else { detach(&files).map_err(Into::into) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &*error as &dyn Error, "the reaper failed");
            ExitCode::FAILURE
        }
    }
}

fn detach(files: &ReaperFiles) -> io::Result<()> {
    let log = OpenOptions::new().create(true).append(true).open(files.log())?;
    // The path of our own file may name a newer one by now.
    Command::new("/proc/self/exe")
        .arg0("agentvm")
        .args([SUBCOMMAND, STATE_DIR_FLAG])
        .arg(files.folder())
        .arg(DETACHED_FLAG)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(())
}

fn run(files: &ReaperFiles) -> Result<(), Box<dyn Error>> {
    // Fails only for the leader of a group, which then has a session already.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let Some(lock) = files.lock()? else {
        tracing::info!("another reaper serves this folder already");
        return Ok(());
    };
    let daemons = files.read_daemons()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise::supervise(files, daemons))?;
    files.remove_state();
    drop(lock);
    Ok(())
}
