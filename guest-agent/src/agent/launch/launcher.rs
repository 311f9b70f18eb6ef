//! The launcher prepares the surroundings, waits for the command, starts it, reaps, reports, and
//! ends together with everything below it.
//!
//! It is a plain synchronous program. In a machine it is PID 1 of the attempt's PID namespace: no
//! process inside can signal it, and when it exits the kernel kills the rest. Elsewhere it is a
//! subreaper and does that itself.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use super::sandbox::{self, WholeProc};
use super::start_command::{self, Refusal, unable};
use super::{Event, Isolation, Order, Spec, tree};

#[derive(Debug, thiserror::Error)]
enum LauncherError {
    #[error("the control socket broke")]
    Control(#[source] std::io::Error),
    #[error("the orders could not be read")]
    Orders(#[source] serde_json::Error),
}

/// Runs until the command and all of its descendants are gone.
pub fn run() -> ExitCode {
    match supervise() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            crate::log::error("launcher", &why);
            ExitCode::FAILURE
        }
    }
}

fn supervise() -> Result<(), LauncherError> {
    let control = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(UnixStream::from)
        .map_err(LauncherError::Control)?;
    let mut orders = BufReader::new(control.try_clone().map_err(LauncherError::Control)?);
    let Some(isolation) = next::<Option<Isolation>>(&mut orders)? else { return Ok(()) };
    // The process that started the agent may have left some open.
    crate::sys::close_on_exec().map_err(LauncherError::Control)?;
    let walls = match surround(isolation.as_ref()) {
        Ok(walls) => walls,
        Err(refusal) => {
            refuse(&control, refusal)?;
            // The agent may be writing the command right now.
            return next::<Spec>(&mut orders).map(drop);
        }
    };
    let isolated = walls.is_some();
    report(&control, &Event::Ready)?;
    // Without one the agent has no more use for this launcher.
    let Some(spec) = next::<Spec>(&mut orders)? else { return Ok(()) };
    let main = match start_command::start(&spec, walls.as_ref()) {
        Ok(main) => main,
        Err(refusal) => return refuse(&control, refusal),
    };
    let watched = watch(&control, orders, main, isolated);
    // However that ended: the agent may be gone before it could be told that anything began.
    if !isolated {
        tree::kill_all();
    }
    watched
}

fn watch(
    control: &UnixStream,
    orders: BufReader<UnixStream>,
    main: Pid,
    isolated: bool,
) -> Result<(), LauncherError> {
    release_stdio();
    report(control, &Event::Started)?;
    std::thread::spawn(move || obey(orders, isolated));
    let (code, signal) = wait_for(main);
    report(control, &Event::Exited { code, signal })
}

/// The agent's next line; `None` if the agent has hung up.
fn next<T: serde::de::DeserializeOwned>(
    orders: &mut BufReader<UnixStream>,
) -> Result<Option<T>, LauncherError> {
    let mut line = String::new();
    match orders.read_line(&mut line).map_err(LauncherError::Control)? {
        0 => Ok(None),
        _ => serde_json::from_str(&line).map(Some).map_err(LauncherError::Orders),
    }
}

/// A shell does so too: the reason becomes the command's stderr.
fn refuse(control: &UnixStream, Refusal { code, message }: Refusal) -> Result<(), LauncherError> {
    let _ = writeln!(std::io::stderr(), "{message}");
    report(control, &Event::Refused { code, message })
}

fn report(mut control: &UnixStream, event: &Event) -> Result<(), LauncherError> {
    let mut line = serde_json::to_vec(event).map_err(LauncherError::Orders)?;
    line.push(b'\n');
    control.write_all(&line).map_err(LauncherError::Control)
}

/// The pipes belong to the command alone: as long as the launcher held them, they would never end.
fn release_stdio() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// Follows orders until the agent is gone, and then lets nothing survive it.
fn obey(orders: BufReader<UnixStream>, isolated: bool) {
    for line in orders.lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Order::Terminate) => tree::signal_all(Signal::TERM),
            Ok(Order::Kill) => tree::signal_all(Signal::KILL),
            Err(_) => break,
        }
    }
    if !isolated {
        tree::kill_all();
    }
    std::process::exit(1);
}

/// Reaps everything, and tells how `main` ended.
fn wait_for(main: Pid) -> (Option<i32>, Option<i32>) {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == main => return verdict(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // No children: the command was reaped elsewhere, which can't be; don't turn in circles.
            Err(_) => return (None, Some(Signal::KILL.as_raw())),
        }
    }
}

fn verdict(status: WaitStatus) -> (Option<i32>, Option<i32>) {
    (status.exit_status(), status.terminating_signal())
}

/// Everything that needs nothing of the command's.
fn surround(isolation: Option<&Isolation>) -> Result<Option<WholeProc>, Refusal> {
    match isolation {
        Some(isolation) => sandbox::enter(isolation)
            .map(Some)
            .map_err(|why| unable("the sandbox could not be set up", &agentvm_types::report(&why))),
        None => rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map(|()| None)
            .map_err(|why| unable("subreaper", &why)),
    }
}
