//! The start of the command itself, and a shell's exit codes for a command that can't start.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use agentvm_guest_agent::protocol::RunAs;
use rustix::process::Pid;

use super::{Spec, sandbox};
use crate::users;

/// A shell's exit codes for a command that does not exist, and for one that cannot be run.
const NOT_FOUND: i32 = 127;
const NOT_RUNNABLE: i32 = 126;

/// Why a command did not start: the exit code and the words of a shell.
#[derive(Debug)]
pub struct Refusal {
    pub code: i32,
    pub message: String,
}

/// Starts the command, or says with which code and words a shell would have refused.
pub fn start(spec: &Spec, isolated: bool) -> Result<Pid, Refusal> {
    let (program, arguments) =
        spec.argv.split_first().ok_or_else(|| unable("nothing to run", &"argv is empty"))?;
    if !spec.cwd.is_dir() {
        return Err(unable(
            &spec.cwd.display().to_string(),
            &"the working directory does not exist",
        ));
    }
    let stdin = stdin_of(spec).map_err(|why| unable("stdin", &why))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(spec.env.iter().map(|(k, v)| (k, v)))
        .current_dir(&spec.cwd)
        .stdin(stdin);
    if isolated && spec.run_as == RunAs::Agent {
        command.uid(users::AGENT_UID).gid(users::AGENT_GID);
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
