//! `agentvm __reaper`: a process that outlives its starter. Every QEMU is its descendant.
//!
//! It starts daemons, keeps them running, and adopts every descendant that loses its parent. An
//! ended QEMU is therefore gone at once. The host's own init may take seconds, and libvirt waits
//! for it (host facts, trap 3). The reaper ends on SIGTERM. It first ends its daemons in reverse
//! order, and leaves the processes that they started alone.
//!
//! ```text
//!  standalone ─► __reaper ─► __reaper --detached ──► daemon, daemon     (children)
//!   (writes       (ends      (session of its own)└─► QEMU, QEMU         (adopted)
//!    daemons.json) at once)
//! ```

mod daemon;
mod detach;
mod event_loop;
mod files;
mod restarts;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

pub use daemon::DaemonSpec;
pub use files::{ReaperFiles, ReaperState};

/// The name of the hidden subcommand and of its arguments.
pub const SUBCOMMAND: &str = "__reaper";
pub const STATE_DIR_FLAG: &str = "--state-dir";
const DETACHED_FLAG: &str = "--detached";

/// The hidden subcommand. Without `detached` it starts itself again and ends, so that the reaper is
/// not a child of the calling process.
pub fn main(state_dir: &Path, detached: bool) -> ExitCode {
    let files = ReaperFiles::new(state_dir);
    let outcome = if detached { run(&files) } else { detach::detach(&files).map_err(Into::into) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &*error as &dyn Error, "the reaper failed");
            ExitCode::FAILURE
        }
    }
}

fn run(files: &ReaperFiles) -> Result<(), Box<dyn Error>> {
    detach::own_session()?;
    let Some(lock) = files.lock()? else {
        tracing::info!("another reaper serves this folder already");
        return Ok(());
    };
    let daemons = files.read_daemons()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(event_loop::supervise(files, daemons))?;
    files.remove_state();
    drop(lock);
    Ok(())
}
