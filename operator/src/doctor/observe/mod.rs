//! The edge of `doctor` and `version`: looks at the host. Every function gives facts, or says why there are none.

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

/// Where to look.
#[derive(Clone, Debug)]
pub struct Places {
    pub state_dir: PathBuf,
    pub control_plane_dir: Option<PathBuf>,
    pub image_dir: Option<PathBuf>,
    pub libvirt_uri: String,
    /// The first of the machines' users.
    pub first_uid: Option<u32>,
    /// Whom machines ask for names by default.
    pub resolvers: Vec<Ipv4Addr>,
    /// Whether libvirt's filters are asked for.
    pub libvirt_filter: LibvirtFilter,
}

/// Looks at everything. Takes up to a few seconds: it starts programs and boots a kernel.
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
