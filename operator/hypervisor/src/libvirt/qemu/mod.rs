//! The QEMU process of a machine: its monitor, its user, its files, its channel to the agent.

pub mod channel;
pub mod disk;
pub mod kvm_probe;
pub mod libvirt_error;
pub mod machine_users;
pub mod monitor;
pub mod page_dropper;
pub mod posix_acl;
pub mod preload;
pub mod process;
pub mod qemu_user;
pub mod slot_user;
pub mod smaps;
