//! Starts an operator on this host, and ends it in order. The command line and the benches use it.
//!
//! ```text
//! operator: settings ─► libvirt, metrics ─► Operator
//! host:     control plane + libvirtd ─► kinds (install) ─► operator
//! ```

mod api_server;
mod host;
mod install;
mod open_files;
mod operator;
mod runtime;
mod shutdown;

pub use api_server::networks as api_server_networks;
pub use host::{HostOptions, Parts, start, stop};
pub use operator::{Served, make_traversable, serve};
pub use runtime::{EndSignals, block_on};
pub use shutdown::POD_GRACE;
