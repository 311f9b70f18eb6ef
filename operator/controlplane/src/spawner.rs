//! Starts children that the kernel kills when this process ends in any way.
//!
//! The kernel kills them when the *thread* ends that started them, and threads of an async runtime
//! come and go. Therefore one thread starts all children, and lives as long as the process.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::commands::CommandLine;
use crate::{environment, log_file};

struct Order {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// A running child whose output goes to its log.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: thread::JoinHandle<()>,
}

impl Running {
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks the child to end. Does nothing if it has ended already.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) =
            self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
        {
            // The child was not waited for yet, so the number still belongs to it.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Waits for its end. A caller may cancel the wait and call it again.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Waits until the last output is in the log.
    pub async fn finish_log(self) {
        let _ = tokio::task::spawn_blocking(move || self.log.join()).await;
    }
}

/// Starts a program in a process group of its own, so that a terminal's Ctrl-C reaches only us and
/// the children end in order.
pub async fn spawn(line: &CommandLine) -> io::Result<Running> {
    let (output, input) = io::pipe()?;
    let mut command = Command::new(&line.program);
    command
        .args(&line.arguments)
        .env_clear()
        .envs(environment::of_children(|name| std::env::var_os(name)))
        .current_dir(&line.folder)
        .stdin(Stdio::null())
        .stdout(input.try_clone()?)
        .stderr(input)
        .process_group(0)
        .kill_on_drop(true);
    die_with_us(&mut command);

    let (reply, answer) = oneshot::channel();
    let order = Order { command, runtime: Handle::current(), reply };
    orders()?.send(order).map_err(|_| gone())?;
    let child = answer.await.map_err(|_| gone())??;

    let path = line.log.clone();
    let name = format!("log {}", line.component);
    let log = thread::Builder::new().name(name).spawn(move || log_file::pump(output, &path))?;
    Ok(Running { child, log })
}

#[allow(unsafe_code)] // `pre_exec` is the only way to run something between fork and exec
fn die_with_us(command: &mut Command) {
    let us = rustix::process::getpid();
    let ask = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // We may have died before the kernel got the request.
        if rustix::process::getppid() == Some(us) {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(3))
        }
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed. The closure makes two
    // raw system calls (rustix calls the kernel directly), compares two integers, and neither
    // allocates nor takes a lock.
    unsafe { command.pre_exec(ask) };
}

fn orders() -> io::Result<&'static mpsc::Sender<Order>> {
    static ORDERS: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    if let Some(orders) = ORDERS.get() {
        return Ok(orders);
    }
    let (sender, receiver) = mpsc::channel();
    // If two callers come here at one time, the thread of the second ends at once without a start.
    thread::Builder::new().name("child spawner".into()).spawn(move || serve(&receiver))?;
    Ok(ORDERS.get_or_init(|| sender))
}

fn serve(orders: &mpsc::Receiver<Order>) {
    while let Ok(Order { mut command, runtime, reply }) = orders.recv() {
        // The caller's runtime notices the child's end.
        let _context = runtime.enter();
        // If the caller is gone, the child is dropped, which kills it.
        let _ = reply.send(command.spawn());
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that starts children has ended")
}
