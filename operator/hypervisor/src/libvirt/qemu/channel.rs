//! Connections to the agents' sockets: at most one for each machine, the newest.
//!
//! QEMU accepts one connection at a time and leaves others waiting. So a new connection shuts down
//! the previous one, wherever that is still held; its holder reads the end of the stream.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, ready};

use agentvm_core::names::DomainName;
use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::files::io as io_error;
use crate::locks::lock;
use crate::{Channel, HvError};

/// The open connections.
#[derive(Debug, Default)]
pub struct Channels(Mutex<HashMap<DomainName, Weak<UnixStream>>>);

impl Channels {
    pub async fn open(&self, name: &DomainName, socket: &Path) -> Result<Channel, HvError> {
        let stream = match UnixStream::connect(socket).await {
            Ok(stream) => Arc::new(stream),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(HvError::NoSuchMachine(name.clone()));
            }
            Err(e) => return Err(io_error("connect to the agent at", socket)(e)),
        };
        let mut all = lock(&self.0);
        all.retain(|_, held| held.strong_count() > 0);
        if let Some(before) =
            all.insert(name.clone(), Arc::downgrade(&stream)).and_then(|held| held.upgrade())
        {
            // Closed by the other side already is as good.
            let _ = shutdown(&*before, Shutdown::Both);
        }
        Ok(Box::new(Held(stream)))
    }

    /// Ends the connection to a machine, if there is one: its messages belong to an incarnation
    /// that ends.
    pub fn close(&self, name: &DomainName) {
        if let Some(held) = lock(&self.0).remove(name).and_then(|held| held.upgrade()) {
            let _ = shutdown(&*held, Shutdown::Both);
        }
    }
}

/// A stream whose socket [`Channels`] can shut down while it is being read.
struct Held(Arc<UnixStream>);

impl AsyncRead for Held {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(n) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(&*self.0, Shutdown::Write).map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn a_new_connection_ends_the_one_before_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("a"), dir.path().join("b"));
        let (listener, other) =
            (UnixListener::bind(&path).unwrap(), UnixListener::bind(&elsewhere).unwrap());
        let channels = Channels::default();
        let name = |n: &str| DomainName::from_recorded(n);
        let mut first = channels.open(&name("a"), &path).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut neighbour = channels.open(&name("b"), &elsewhere).await.unwrap();
        let (mut neighbour_peer, _) = other.accept().await.unwrap();
        first.write_all(b"x").await.unwrap();
        assert_eq!(peer.read_u8().await.unwrap(), b'x');
        let mut second = channels.open(&name("a"), &path).await.unwrap();
        assert_eq!(first.read(&mut [0; 8]).await.unwrap(), 0, "the old holder reads the end");
        assert_eq!(peer.read(&mut [0; 8]).await.unwrap(), 0, "QEMU sees the old one close");
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.write_all(b"y").await.unwrap();
        assert_eq!(second.read_u8().await.unwrap(), b'y');
        neighbour_peer.write_all(b"z").await.unwrap();
        assert_eq!(neighbour.read_u8().await.unwrap(), b'z');
        channels.close(&name("a"));
        channels.close(&name("a"));
        assert_eq!(second.read(&mut [0; 8]).await.unwrap(), 0, "closed by name");
        assert_eq!(peer.read(&mut [0; 8]).await.unwrap(), 0, "dropping closes");
    }

    #[tokio::test]
    async fn no_socket_means_no_machine() {
        let error = Channels::default()
            .open(&DomainName::from_recorded("x"), Path::new("/nowhere"))
            .await
            .err();
        assert!(matches!(error, Some(HvError::NoSuchMachine(_))));
    }
}
