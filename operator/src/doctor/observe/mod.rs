//! The edge of `doctor` and `version`: looks at the host. Every function returns facts, or the
//! reason why it has no facts.

pub mod command;
mod confinement;
mod disk;
mod host;
mod kvm;
mod network;
pub mod parts;
mod swap;
pub mod virt;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use agentvm_hypervisor::libvirt::LibvirtFilter;

use super::observed::Observed;

/// The places and settings that decide where to look.
#[derive(Clone, Debug)]
pub struct Places {
    pub state_dir: PathBuf,
    pub control_plane_dir: Option<PathBuf>,
    pub image_dir: Option<PathBuf>,
    pub libvirt_uri: String,
    /// The first user id for machines.
    pub first_uid: Option<u32>,
    /// The default DNS servers of machines.
    pub resolvers: Vec<Ipv4Addr>,
    /// Whether libvirt's filters are configured.
    pub libvirt_filter: LibvirtFilter,
}

/// Collects all facts. Takes up to a few seconds, because it starts programs and boots a kernel.
pub fn host(places: &Places) -> Observed {
    let devices = host::devices();
    let parts = parts::parts(places.control_plane_dir.as_deref(), places.image_dir.as_deref());
    let kvm_boot = kvm::boot(&devices.kvm, parts.image.as_ref().ok());
    Observed {
        host: host::host(),
        user: host::user(),
        devices,
        security: host::security(),
        confinement: confinement::confinement(places.first_uid),
        network: network::network(places),
        clock: host::clock(),
        virt: virt::virt(&places.libvirt_uri, kvm_boot),
        disk: disk::disk(&places.state_dir),
        parts,
    }
}

pub use host::kernel;
