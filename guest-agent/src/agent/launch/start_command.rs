//! The start of the command itself, and a shell's exit codes for a command that can't start.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use agentvm_guest_agent::protocol::RunAs;
use rustix::process::Pid;

use super::Spec;
use super::sandbox::{self, WholeProc};
use crate::{users, workspace};

/// A shell's exit codes for a command that does not exist, and for one that cannot be run.
const NOT_FOUND: i32 = 127;
const NOT_RUNNABLE: i32 = 126;

/// Why a command did not start: the exit code and the words of a shell.
#[derive(Debug)]
pub struct Refusal {
    pub code: i32,
    pub message: String,
}

/// Starts the command, or says with which code and words a shell would have refused. `walls` are
/// there in a machine.
pub fn start(spec: &Spec, walls: Option<&WholeProc>) -> Result<Pid, Refusal> {
    let isolated = walls.is_some();
    let (program, arguments) =
        spec.argv.split_first().ok_or_else(|| unable("nothing to run", &"argv is empty"))?;
    if !spec.cwd.is_dir() {
        return Err(unable(
            &spec.cwd.display().to_string(),
            &"the working directory does not exist",
        ));
    }
    let owner = isolated.then(|| owner(spec.run_as));
    if let Some(project) = &spec.project {
        workspace::lay_out(project, &spec.cwd, owner)
            .map_err(|why| unable("the working directory", &agentvm_types::report(&why)))?;
    }
    if let Some(walls) = walls {
        sandbox::close(walls, spec.run_as).map_err(|why| unable("the last wall", &why))?;
    }
    if let Some(owner) = owner {
        give_streams(owner).map_err(|why| unable("the output streams", &why))?;
    }
    let stdin = stdin_of(spec).map_err(|why| unable("stdin", &why))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, OsStr::from_bytes(&value.0))))
        .current_dir(&spec.cwd)
        .stdin(stdin);
    if let Some((uid, gid)) = owner.filter(|_| spec.run_as == RunAs::Agent) {
        command.uid(uid).gid(gid);
    }
    crate::sys::in_own_session(&mut command);
    if isolated {
        sandbox::mortal();
    }
    let spawned = command.spawn();
    if isolated {
        sandbox::immortal();
    }
    let child = spawned.map_err(|why| refusal(program, &why))?;
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| unable(program, &"no process id"))
}

fn refusal(program: &str, why: &std::io::Error) -> Refusal {
    match why.kind() {
        std::io::ErrorKind::NotFound => {
            Refusal { code: NOT_FOUND, message: format!("agentvm: {program}: command not found") }
        }
        std::io::ErrorKind::PermissionDenied => unable(program, &"permission denied"),
        _ => unable(program, why),
    }
}

fn owner(run_as: RunAs) -> (u32, u32) {
    match run_as {
        RunAs::Agent => (users::AGENT_UID, users::AGENT_GID),
        RunAs::Root => (0, 0),
    }
}

/// Gives the command its output streams, which are this process's own until then. The owner may
/// open them again by a path (`/dev/stderr`). So may every other user that the command starts a
/// program as: only processes that may look into each other's descriptors find such a path.
fn give_streams((uid, gid): (u32, u32)) -> std::io::Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    for stream in [rustix::stdio::stdout(), rustix::stdio::stderr()] {
        rustix::fs::fchown(stream, Some(uid), Some(gid))?;
        rustix::fs::fchmod(stream, rustix::fs::Mode::from_raw_mode(0o666))?;
    }
    Ok(())
}

/// An anonymous file: unlike a pipe, it needs no writer.
fn stdin_of(spec: &Spec) -> std::io::Result<Stdio> {
    let Some(bytes) = &spec.stdin else { return Ok(Stdio::null()) };
    let mut file = File::from(rustix::fs::memfd_create("stdin", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(&bytes.0)?;
    file.rewind()?;
    // Opened anew, so that the command can't write to it.
    Ok(OwnedFd::from(File::open(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&file)
    ))?)
    .into())
}

pub fn unable(what: &str, why: &dyn std::fmt::Display) -> Refusal {
    Refusal { code: NOT_RUNNABLE, message: format!("agentvm: {what}: {why}") }
}
