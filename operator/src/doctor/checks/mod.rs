//! The checks. Each is a pure function from the observed facts to one finding. No check looks at
//! the host itself.

mod confinement;
mod hardware;
mod host;
mod network;
mod parts;
mod resets;
mod storage;
mod swap;
mod version;
mod virt;

use super::finding::Finding;
use super::observed::Observed;

/// Every check, in the order in which a person should repair the findings.
pub(super) fn all(seen: &Observed) -> Vec<Finding> {
    vec![
        hardware::cpu(&seen.host),
        hardware::memory(&seen.host),
        hardware::kvm_device(&seen.devices, &seen.host, &seen.user),
        hardware::kvm_boot(&seen.virt),
        hardware::modules(&seen.host, &seen.devices),
        hardware::vsock(&seen.devices, &seen.virt),
        virt::qemu(&seen.virt),
        virt::shares(&seen.virt),
        virt::libvirt(&seen.virt, &seen.user),
        virt::log_daemon(&seen.virt, &seen.confinement),
        resets::tier(seen),
        storage::space(&seen.disk),
        storage::access(&seen.disk),
        storage::attributes(&seen.disk),
        storage::loop_devices(&seen.devices, &seen.user),
        storage::run_folder(&seen.disk),
        storage::open_files(&seen.host),
        host::user(&seen.user),
        host::security(&seen.security, &seen.disk),
        confinement::users(&seen.confinement),
        confinement::system_calls(&seen.confinement),
        confinement::namespaces(&seen.confinement),
        confinement::network(&seen.confinement),
        confinement::profile(&seen.confinement, &seen.security),
        confinement::limits(&seen.confinement),
        network::nftables(&seen.host, &seen.network),
        network::subnet(&seen.network),
        network::forwarding(&seen.network),
        network::others(&seen.network),
        network::others_ipv6(&seen.network),
        network::resolver(&seen.network),
        network::filter(&seen.network.filter),
        swap::swap(&seen.host),
        host::clock(seen.clock),
        parts::control_plane(&seen.parts),
        parts::guest_image(&seen.parts),
    ]
}

#[cfg(test)]
mod tests;
