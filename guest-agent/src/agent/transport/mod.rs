//! Where connections come from. Each transport turns its own kind into a [`Link`](crate::session::Link) and puts it into one queue:
//! the newest is served.

pub mod serial;
pub mod unix;
pub mod vsock;

use tokio::sync::mpsc;

use crate::session::Link;

/// Newly made connections.
pub type Links = mpsc::Sender<Box<dyn Link>>;
