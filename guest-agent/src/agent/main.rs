//! `agentvm-guest`: PID 1 of a machine. On a host it is an agent in a folder behind a unix socket,
//! for tests.
#![deny(unsafe_code)]

mod agent;
mod attempt;
mod cgroup;
mod disk;
mod git;
mod handlers;
mod handshake;
mod init;
mod launch;
mod log;
mod mounts;
mod network;
mod outbox;
mod platform;
mod power;
mod ready;
mod rehearsal;
mod scope;
mod session;
mod stream;
mod sys;
mod transport;
mod users;
mod workspace;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::process::WaitOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use agent::Agent;
use platform::{Folder, Machine, Platform};
use transport::{serial, unix, vsock};

const USAGE: &str = "usage: agentvm-guest --socket PATH --workspace DIR
As PID 1 it needs no arguments: it boots the machine that it is in.";

/// The role of this process.
#[derive(Debug, PartialEq, Eq)]
enum Role {
    Init,
    Launcher,
    Folder { socket: PathBuf, workspace: PathBuf },
    Version,
    Unknown,
}

fn main() -> ExitCode {
    match role(std::process::id(), &std::env::args_os().skip(1).collect::<Vec<_>>()) {
        Role::Init => machine(),
        Role::Launcher => launch::run_launcher(),
        Role::Folder { socket, workspace } => folder(&socket, &workspace),
        Role::Version => {
            println!("agentvm-guest {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Role::Unknown => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// A launcher is PID 1 too, of its namespace: the argument comes first.
fn role(pid: u32, arguments: &[OsString]) -> Role {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    match words.as_slice() {
        [launch::LAUNCHER_ARGUMENT] => Role::Launcher,
        _ if pid == 1 => Role::Init,
        ["--version"] => Role::Version,
        ["--socket", socket, "--workspace", workspace]
        | ["--workspace", workspace, "--socket", socket] => {
            Role::Folder { socket: socket.into(), workspace: workspace.into() }
        }
        _ => Role::Unknown,
    }
}

fn machine() -> ExitCode {
    let platform = Platform::Machine(Machine::default());
    if let Err(why) = init::boot() {
        log::error("the machine could not boot and is turned off", &why);
        platform.power_off();
    }
    let listen = |links: transport::Links| {
        let serial = serial::find().map(|port| serial::listen(&port, links.clone()));
        let vsock = vsock::listen(links);
        match (serial, vsock) {
            (Some(Ok(())), _) | (_, Ok(())) => Ok(()),
            (Some(Err(why)), Err(_)) | (None, Err(why)) => Err(why),
        }
    };
    let why = serve(platform, listen, power::presses);
    log::error("the agent can't go on", &why);
    Platform::Machine(Machine::default()).power_off()
}

fn folder(socket: &std::path::Path, workspace: &std::path::Path) -> ExitCode {
    let folder = match Folder::create(workspace) {
        Ok(folder) => folder,
        Err(why) => {
            log::error(&format!("the folder {} can't be used", workspace.display()), &why);
            return ExitCode::FAILURE;
        }
    };
    let why =
        serve(Platform::Folder(folder), |links| unix::listen(socket, links), || mpsc::channel(1).1);
    log::error(&format!("the socket {} can't be used", socket.display()), &why);
    ExitCode::FAILURE
}

/// Runs the agent; returns only if it can't be reached or woken.
fn serve(
    platform: Platform,
    listen: impl FnOnce(transport::Links) -> io::Result<()>,
    presses: impl FnOnce() -> mpsc::Receiver<()>,
) -> io::Error {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return why,
    };
    runtime.block_on(async {
        let (links, accepted) = mpsc::channel(1);
        if let Err(why) = reap().and_then(|()| listen(links)) {
            return why;
        }
        log::info("ready");
        Agent::new(platform).run(accepted, presses()).await
    })
}

/// Launchers, and in a machine every orphan, are children of this process.
fn reap() -> io::Result<()> {
    let mut deaths = signal(SignalKind::child())?;
    tokio::spawn(async move {
        while deaths.recv().await.is_some() {
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role_of(pid: u32, words: &[&str]) -> Role {
        role(pid, &words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_role_follows_from_pid_and_arguments() {
        assert_eq!(role_of(1, &[]), Role::Init);
        assert_eq!(
            role_of(1, &["quiet", "splash"]),
            Role::Init,
            "the kernel passes on what it doesn't know"
        );
        assert_eq!(role_of(1, &["--launcher"]), Role::Launcher);
        assert_eq!(role_of(7, &[]), Role::Unknown);
        let folder = Role::Folder { socket: "a".into(), workspace: "b".into() };
        assert_eq!(role_of(7, &["--workspace", "b", "--socket", "a"]), folder);
    }
}
