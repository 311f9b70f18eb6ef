//! A library inside QEMU: on request it drops everything that the machine wrote to its memory.
//!
//! A machine's RAM is a private mapping of its golden's file. Only the process itself can drop the
//! pages that it has written, and then it reads the golden's pages again. The library can do only
//! this, on its own thread, for a caller who is root, at the socket that `AGENTVM_RESET_SOCKET`
//! names. Without its two variables it does nothing at all.
//!
//! ```text
//! root: drop\n        library: dropped MAPPINGS BYTES\n   or   error: WHY\n
//! ```
//! It must never harm QEMU: no panic leaves it, its thread takes none of QEMU's signals, its input
//! is bounded in bytes and time.

mod drop;
mod maps;
mod serve;
mod start;

pub use start::{MEMORY_ENV, SOCKET_ENV};
