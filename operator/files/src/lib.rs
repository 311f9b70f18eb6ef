//! Files that appear whole or not at all, folders that only we can change, and what the kernel's
//! files say about a process.
//!
//! A leaf: the control plane, the host edge and the operator use it, and it knows none of them.

mod process_stat;
mod trusted_folder;
mod whole_file;

pub use process_stat::ProcessStat;
pub use trusted_folder::{Untrusted, check_trusted, make_trusted};
pub use whole_file::{Durability, WholeFile};
