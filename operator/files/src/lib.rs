//! Files that appear whole or not at all, and what the kernel's files say about a process.
//!
//! A leaf: the control plane, the host edge and the operator use it, and it knows none of them.

mod process_stat;
mod whole_file;

pub use process_stat::ProcessStat;
pub use whole_file::{Durability, WholeFile};
