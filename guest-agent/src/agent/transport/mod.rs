//! The sources of connections. Each transport turns its own kind into a [`Connection`] and puts it
//! into one queue. The newest connection is served.

pub mod serial;
pub mod unix;
pub mod vsock;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Bytes both ways.
pub trait Link: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

/// A connection from a transport.
pub struct Connection {
    pub link: Box<dyn Link>,
    /// It can't be closed, only begun anew by another HELLO.
    pub lasting: bool,
}

/// Newly made connections.
pub type Links = mpsc::Sender<Connection>;
