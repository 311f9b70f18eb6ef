//! The virtio-serial port, made to look like one connection that never ends.
//!
//! A port knows only whether a host is at the other end, and even that arrives late: the first
//! bytes of a new host may come before the news that the old one left. So this file does not tell
//! hosts apart. Their HELLO does, and a host that died in the middle of a frame is found by that
//! frame's deadline (see `session.rs`).
//!
//! Without a host at the other end, reads return 0 and poll says HUP at once and for ever, so
//! neither can be waited on. Only the *edge* of the next change can. Two plain threads wait for it,
//! and copy between the port and a socket pair:
//!
//! ```text
//!   port ──read──► thread ──► pair ═══ session        read 0: nobody there, wait for an edge
//!   port ◄─write── thread ◄── pair ═══ session        ends when a newer connection replaces it
//! ```

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use agentvm_guest_agent::protocol::SERIAL_PORT;
use rustix::event::epoll;
use tokio::runtime::Handle;

use super::{Connection, Links};
use crate::log;

/// The agent's port, if this machine has one.
pub fn find() -> Option<PathBuf> {
    let ports = std::fs::read_dir("/sys/class/virtio-ports").ok()?;
    let ours = ports.flatten().find(|port| {
        std::fs::read_to_string(port.path().join("name"))
            .is_ok_and(|name| name.trim() == SERIAL_PORT)
    })?;
    Some(PathBuf::from("/dev").join(ours.file_name()))
}

/// Serves the port until the process ends.
pub fn listen(port: &std::path::Path, links: Links) -> io::Result<()> {
    let port = Arc::new(File::options().read(true).write(true).open(port)?);
    let edges = Edges::of(&port)?;
    let runtime = Handle::current();
    std::thread::Builder::new().name("serial".to_owned()).spawn(move || {
        if let Err(why) = serve(&port, &edges, &links, &runtime) {
            log::error("the serial port failed", &why);
        }
    })?;
    Ok(())
}

/// Changes of the port's state, each reported once.
struct Edges(std::os::fd::OwnedFd);

impl Edges {
    fn of(port: &File) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ET;
        epoll::add(&epoll, port, epoll::EventData::new_u64(0), flags)?;
        Ok(Self(epoll))
    }

    fn wait(&self) -> io::Result<()> {
        let mut events = Vec::with_capacity(1);
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }
}

/// The port as the session sees it.
struct Bridge {
    ours: UnixStream,
    writer: JoinHandle<()>,
}

impl Bridge {
    fn open(port: &Arc<File>, links: &Links, runtime: &Handle) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        let link = {
            let _within = runtime.enter();
            tokio::net::UnixStream::from_std(theirs)?
        };
        let connection = Connection { link: Box::new(link), lasting: true };
        links.blocking_send(connection).map_err(|_| io::ErrorKind::BrokenPipe)?;
        let (from, port) = (ours.try_clone()?, Arc::clone(port));
        let writer = std::thread::Builder::new()
            .name("serial-out".to_owned())
            .spawn(move || copy(from, &port))?;
        Ok(Self { ours, writer })
    }

    /// The output of the next session must not mix with the bytes that this session's thread still
    /// has.
    fn close(self) {
        let _ = self.ours.shutdown(Shutdown::Both);
        let _ = self.writer.join();
    }
}

fn serve(port: &Arc<File>, edges: &Edges, links: &Links, runtime: &Handle) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let mut bridge: Option<Bridge> = None;
    loop {
        let read = match port.as_ref().read(&mut buffer) {
            Ok(0) => {
                edges.wait()?;
                continue;
            }
            Ok(read) => read,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => return Err(why),
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        if bridge.as_ref().is_some_and(|bridge| (&bridge.ours).write_all(bytes).is_ok()) {
            continue;
        }
        // There is no connection yet, or a newer one took its place: then these bytes are newer
        // still.
        if let Some(replaced) = bridge.take() {
            replaced.close();
        }
        let fresh = Bridge::open(port, links, runtime)?;
        (&fresh.ours).write_all(bytes)?;
        bridge = Some(fresh);
    }
}

fn copy(mut from: UnixStream, port: &File) {
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let mut port = port;
        if port.write_all(buffer.get(..read).unwrap_or_default()).is_err() {
            return;
        }
    }
}
