//! Machines as libvirt domains.
//!
//! ```text
//! hypervisor ─► handle (lanes: threads, one connection each)
//!     │
//!     ▼
//! template · capture · clone · reset · tiers · machine · sweep     what is done to a machine, from its template to its end
//!     │
//!     ▼
//! start · links · observe · golden · network · filter · facts      what several of those need
//!     │
//!     ▼
//! host                                                             what this process knows: paths, users, who is at work
//!     │
//!     ▼
//! domain · process · qmp · disk · proof · marks · *_xml            one thing each, told all that they need
//! ```
//! An arrow is read "uses"; none points back up. The control channel is a virtio-serial port bound to a unix socket in the machine's folder.

mod accelerator;
mod acl;
mod baseline;
mod baseline_xml;
mod capture;
mod channel;
mod clone;
mod config;
mod digest;
mod disk;
mod domain;
mod domain_xml;
mod elements;
mod facts;
mod filter;
mod filter_xml;
mod golden;
mod handle;
mod host;
mod hypervisor;
mod image;
mod interface_xml;
mod layout;
mod library;
mod limits;
mod links;
mod machine;
mod marks;
mod metadata;
mod network;
mod network_xml;
mod observe;
mod preload;
mod process;
mod process_limits;
mod proof;
mod qemu_user;
mod qmp;
mod reset;
mod self_test;
mod slot_user;
mod start;
mod sweep;
mod template;
mod tiers;
mod worker;
mod xml;

pub use accelerator::boots as boots_with_kvm;
pub use baseline::Baseline;
#[doc(hidden)]
pub use config::Sabotage;
pub use config::{LibvirtConfig, LibvirtFilter};
pub use handle::Libvirt;
pub use preload::find_preload;

#[cfg(test)]
pub(crate) fn example_record() -> crate::MachineRecord {
    metadata::tests::record("pool")
}
