//! Machines as libvirt domains.
//!
//! ```text
//! api/ · baseline   the five traits, the cold-boot machines that the benchmark compares with
//!     │
//! handle            `Libvirt`: three lanes to libvirt, the parts of the host, the caches
//!     │
//! golden/           boots a template and captures it
//!     │
//! reset/            brings a machine back in place, proves it, tests the tiers
//!     │
//! machine/          creates, starts, observes, limits and ends machines
//!     │
//! host/             the parts of the host, the NAT network, filters, facts, machines at work
//!     │
//! connection/       threads and calls of libvirt, configuration
//!     │
//! xml/              the XML of domains, networks and filters
//!     │
//! qemu/             the QEMU process: monitor, users, disk, channel, preload library
//!     │
//! store/            the files of the state folder
//! ```
//! A folder uses the folders below it, and never one above. The control channel is a virtio-serial
//! port that is bound to a unix socket in the machine's folder.

mod api;
mod baseline;
mod connection;
mod golden;
mod handle;
mod host;
mod machine;
mod qemu;
mod reset;
mod store;
mod xml;

#[doc(hidden)]
pub use crate::sabotage::Sabotage;
pub use baseline::Baseline;
pub use connection::config::{LibvirtConfig, LibvirtFilter};
pub use handle::Libvirt;
pub use qemu::kvm_probe::boots as boots_with_kvm;
pub use qemu::preload::find_preload;

#[cfg(test)]
pub(crate) fn example_record() -> crate::MachineRecord {
    xml::metadata::tests::record("pool")
}
