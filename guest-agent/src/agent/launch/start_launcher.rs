//! The agent's side: starts a launcher and turns its reports into a channel of events.

use std::io::Write as _;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Command;

use rustix::thread::UnshareFlags;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::{Event, Isolation, LAUNCHER_ARGUMENT, Order, Spec};
use crate::sys;

/// One read from a pipe.
const READ: usize = agentvm_guest_agent::protocol::CHUNK;

/// A running launcher. Dropping it closes the control socket, which ends the launcher and all below
/// it.
#[derive(Debug)]
pub struct Launched {
    pub events: mpsc::Receiver<Event>,
    pub stdout: mpsc::Receiver<Vec<u8>>,
    pub stderr: mpsc::Receiver<Vec<u8>>,
    orders: StdUnixStream,
}

impl Drop for Launched {
    fn drop(&mut self) {
        // The task that reads events has the other handle on this end.
        let _ = self.orders.shutdown(Shutdown::Both);
    }
}

/// Why there is no launcher, or not a ready one; nothing of the command has run.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("pipes for the command could not be made")]
    Pipes(#[source] std::io::Error),
    #[error("the launcher could not be started")]
    Spawn(#[source] std::io::Error),
    #[error("the launcher did not take its orders")]
    Orders(#[source] std::io::Error),
    #[error("the launcher ended before it was ready")]
    Gone,
    #[error("{0}")]
    Refused(String),
}

impl Launched {
    /// Waits until a command would start at once. Only for a launcher that has no command yet.
    pub async fn ready(&mut self) -> Result<(), LaunchError> {
        match self.events.recv().await {
            Some(Event::Ready) => Ok(()),
            Some(Event::Refused { message, .. }) => Err(LaunchError::Refused(message)),
            Some(Event::Started | Event::Exited { .. }) | None => Err(LaunchError::Gone),
        }
    }

    /// Whether a launcher that is ready still waits for its command.
    pub fn is_waiting(&self) -> bool {
        self.events.is_empty() && !self.events.is_closed()
    }

    /// Names the command. The launcher reads while this writes, so a long command takes its time.
    pub fn start(&mut self, spec: &Spec) -> Result<(), LaunchError> {
        // The end for events shares this description, and so its mode; it is not read while this
        // writes.
        self.orders.set_nonblocking(false).map_err(LaunchError::Orders)?;
        let sent = send_line(&self.orders, spec).map_err(LaunchError::Orders);
        self.orders.set_nonblocking(true).map_err(LaunchError::Orders)?;
        sent
    }

    /// Passes an order on. A launcher that is gone needs none.
    pub fn order(&mut self, order: Order) {
        let _ = send_line(&self.orders, &order);
    }
}

/// Starts a launcher, which prepares the surroundings and waits for its command.
pub fn launch(isolation: Option<&Isolation>) -> Result<Launched, LaunchError> {
    let (ours, theirs) = StdUnixStream::pair().map_err(LaunchError::Pipes)?;
    let (stdout, stdout_end) = std::io::pipe().map_err(LaunchError::Pipes)?;
    let (stderr, stderr_end) = std::io::pipe().map_err(LaunchError::Pipes)?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(LAUNCHER_ARGUMENT)
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(stdout_end)
        .stderr(stderr_end);
    start(command, isolation.is_some()).map_err(LaunchError::Spawn)?;
    send_line(&ours, &isolation).map_err(LaunchError::Orders)?;
    let control = ours.try_clone().map_err(LaunchError::Pipes)?;
    Ok(Launched {
        events: read_events(control).map_err(LaunchError::Pipes)?,
        stdout: pump(stdout.into()).map_err(LaunchError::Pipes)?,
        stderr: pump(stderr.into()).map_err(LaunchError::Pipes)?,
        orders: ours,
    })
}

/// In a machine the launcher is PID 1 of a namespace of its own. A thread leaves its PID namespace
/// for good, so this has a thread of its own. The agent's SIGCHLD handler reaps its child.
fn start(mut command: Command, own_pids: bool) -> std::io::Result<()> {
    if !own_pids {
        return command.spawn().map(drop);
    }
    let starter = std::thread::spawn(move || {
        sys::unshare_namespaces(UnshareFlags::NEWPID)?;
        command.spawn().map(drop)
    });
    starter.join().unwrap_or_else(|_| Err(std::io::Error::other("the starting thread panicked")))
}

fn send_line<T: serde::Serialize>(mut stream: &StdUnixStream, value: &T) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn read_events(control: StdUnixStream) -> std::io::Result<mpsc::Receiver<Event>> {
    control.set_nonblocking(true)?;
    let mut lines = BufReader::new(UnixStream::from_std(control)?).lines();
    let (sender, events) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let Ok(event) = serde_json::from_str(&line) else { break };
            if sender.send(event).await.is_err() {
                break;
            }
        }
    });
    Ok(events)
}

/// Reads a pipe only as fast as its data is used: a full channel lets the pipe fill, and a full
/// pipe makes the command wait.
fn pump(end: OwnedFd) -> std::io::Result<mpsc::Receiver<Vec<u8>>> {
    let mut end = pipe::Receiver::from_owned_fd(end)?;
    let (sender, chunks) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut buffer = vec![0; READ];
        while let Ok(read @ 1..) = end.read(&mut buffer).await {
            if sender.send(buffer.get(..read).unwrap_or_default().to_vec()).await.is_err() {
                break;
            }
        }
    });
    Ok(chunks)
}
