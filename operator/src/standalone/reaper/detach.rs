//! Makes the reaper outlive its starter.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{DETACHED_FLAG, ReaperFiles, STATE_DIR_FLAG, SUBCOMMAND};

/// Starts the reaper as a process that is not a child of the calling process.
pub fn detach(files: &ReaperFiles) -> io::Result<()> {
    let log = OpenOptions::new().create(true).append(true).open(files.log())?;
    // The path of our own file may lead to a newer file by now.
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

/// Leaves the starter's session, and adopts each descendant that loses its parent.
pub fn own_session() -> io::Result<()> {
    // Fails only for the leader of a group, which has a session already.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(())
}
