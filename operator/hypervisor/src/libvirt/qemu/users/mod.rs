//! The users that QEMU processes run as.
//!
//! ```text
//!   machine_users.rs  which user a machine has, and its folders
//!   qemu_user.rs      the user of libvirt's configuration
//!   uids.rs           the numbers of the users that only machines have
//!   access.rs         files, folders and devices (/dev/kvm) that such a user may use
//!   posix_acl.rs      access lists, which say what a mode cannot
//! ```

mod access;
mod machine_users;
pub mod posix_acl;
mod qemu_user;
pub mod uids;

pub use machine_users::MachineUsers;
pub use qemu_user::QemuUser;
