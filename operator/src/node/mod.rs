//! The node: its id, and the sole use of its state folder.

pub mod id;
pub mod lock;
