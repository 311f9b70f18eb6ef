//! The QEMU process of a machine: its monitor, its user, its files, its channel to the agent.

pub mod channel;
pub mod disk;
pub mod kvm_probe;
pub mod libvirt_error;
pub mod monitor;
pub mod page_dropper;
pub mod preload;
pub mod process;
pub mod smaps;
pub mod users;
