//! A machine's share: what goes into it, what comes out, and the file system that bounds it.
//!
//! Everything below `output` was written by somebody hostile; everything here reads through directory handles only.
//! Knows nothing of libvirt.

pub mod collect;
pub mod input;
pub mod share;
mod tree;
pub mod virtfs;
