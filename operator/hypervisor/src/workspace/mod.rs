//! A machine's share: its input, its output, and the file system that bounds it.
//!
//! Everything below `output` is hostile, so this code reads through directory handles only. It does
//! not know libvirt.

pub mod budget;
pub mod collect;
mod copy;
pub mod input;
pub mod share;
mod target;
mod tree;
pub mod virtfs;
