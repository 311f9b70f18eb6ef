//! Where connections come from. Each transport turns its own kind into a [`Connection`] and puts it into one queue:
//! the newest is served.

pub mod serial;
pub mod unix;
pub mod vsock;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Bytes both ways.
pub trait Link: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

/// What a transport hands over.
pub struct Connection {
    pub link: Box<dyn Link>,
    /// It can't be closed, only begun anew by another HELLO.
    pub lasting: bool,
}

/// Newly made connections.
pub type Links = mpsc::Sender<Connection>;
