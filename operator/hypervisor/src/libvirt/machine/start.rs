//! The start of every machine: attached, paused, within its limits, and cut off.

use std::path::Path;

use agentvm_core::network::{Nic, Wire};
use virt::connect::Connect;
use virt::domain::Domain;

use super::limits_in_force;
use crate::files::in_memory;
use crate::firewall::{Firewall, ipv6, unavailable};
use crate::libvirt::connection::domain;
use crate::libvirt::host::nat_network;
use crate::libvirt::host::state::Host;
use crate::libvirt::store::goldens::CapturedLayout;
use crate::libvirt::xml::domain::DomainSpec;
use crate::libvirt::xml::interface::{Plug, Socket};
use crate::libvirt::xml::limits;
use crate::{HvError, MachineRecord};

/// `spec` describes the domain, once its attachment is known.
pub fn paused(
    host: &Host,
    conn: &Connect,
    record: &MachineRecord,
    captured: &CapturedLayout,
    spec: impl FnOnce(Option<Plug>) -> Result<DomainSpec, HvError>,
) -> Result<Domain, HvError> {
    let plug = plug_in(host, conn, record.nic.as_ref())?;
    let xml = spec(plug)?.to_xml()?;
    let started = domain::start(conn, &record.name, &xml, true)?;
    limits_in_force::memory(&started, memory_limit_mib(host.folder.root(), captured));
    closed(&host.firewall, record)?;
    Ok(started)
}

/// If the state directory is in memory, the data on a machine's disk is in memory, too.
fn memory_limit_mib(state_dir: &Path, captured: &CapturedLayout) -> u64 {
    let disk_mib = u64::from(captured.resources.disk_gib) << 10;
    let in_memory = in_memory(state_dir).unwrap_or(false);
    limits::memory_mib(&captured.resources, captured.kvm, if in_memory { disk_mib } else { 0 })
}

/// Prepares the host for a machine's device: its bridge, and rules that drop unknown packets. The
/// rules also keep its QEMU from the host's network, even when it has no device.
fn plug_in(host: &Host, conn: &Connect, nic: Option<&Nic>) -> Result<Option<Plug>, HvError> {
    let Some(nic) = nic else {
        host.firewall.confine_qemu();
        return Ok(None);
    };
    let ours = host.network.ensure(conn)?;
    host.firewall.guard(&ours.subnet)?;
    if nic.ipv6().is_some() {
        ipv6::ensure(&host.config.instance, &ours.subnet)?;
    }
    let socket = match &nic.wire {
        Wire::Nat { .. } => Socket::Network(ours.name),
        Wire::Bridge { bridge } if nat_network::is_there(bridge) => Socket::Bridge(bridge.clone()),
        Wire::Bridge { bridge } => {
            let detail = format!(
                "there is no bridge {bridge} on this host; make it, or name another one in \
                    network.bridge"
            );
            return Err(unavailable("plug in a machine", detail));
        }
    };
    let filter = host.filters.of(conn, nic)?;
    Ok(Some(Plug { tap: nic.tap.clone(), mac: nic.mac, socket, filter }))
}

/// Call it right after a domain was started, paused: libvirt sets a tap up when it makes it. No
/// guest has run behind it yet, and nothing passes the rules. From here on the machine is cut off
/// until its link is opened.
fn closed(firewall: &Firewall, record: &MachineRecord) -> Result<(), HvError> {
    firewall.machines().note(record);
    let Some(nic) = &record.nic else { return Ok(()) };
    firewall.set_tap_down(&nic.tap)?;
    firewall.begin_counts(&record.name)
}
