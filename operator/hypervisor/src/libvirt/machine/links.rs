//! Links of machines: the connection between the rules (`firewall/`) and libvirt's domains.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentvm_core::names::DomainName;
use agentvm_core::network::{Flow, Link, Policy};
use agentvm_types::OwnerUid;
use ipnet::IpNet;
use tokio::sync::mpsc::Receiver;
use virt::connect::Connect;

use super::observe;
use crate::firewall::{Firewall, unavailable};
use crate::libvirt::connection::domain;
use crate::libvirt::host::state::Host;
use crate::libvirt::store::marks;
use crate::libvirt::store::state_folder::StateFolder;
use crate::{HvError, MachineRecord, RefusedPolicies};

pub fn put_in_force(
    host: &Host,
    conn: &Connect,
    policies: BTreeMap<OwnerUid, Policy>,
    deny_list: &[IpNet],
) -> Result<RefusedPolicies, HvError> {
    let ours = host.network.ensure(conn)?;
    let machines: Vec<MachineRecord> = if host.firewall.is_new() {
        observe::all(&host.folder, &host.at_work, &host.config.instance, conn)?
            .into_iter()
            .map(|machine| machine.record)
            .collect()
    } else {
        Vec::new()
    };
    host.firewall.enforce(&ours.subnet, policies, deny_list, &machines)
}

/// A machine that may be anything by now stays cut off.
pub fn open(
    folder: &StateFolder,
    firewall: &Arc<Firewall>,
    name: &DomainName,
    link: &Link,
) -> Result<(), HvError> {
    let dir = folder.machine(name);
    let refuse = |detail: &str| Err(unavailable(&format!("connect machine {name}"), detail));
    if marks::is_quarantined(&dir) {
        return refuse("it is quarantined");
    }
    if !dir.ready().exists() {
        return refuse("it is not whole");
    }
    firewall.admit(name, link)
}

/// A machine that was made by a process before this one.
pub fn look(host: &Host, conn: &Connect, name: &DomainName) -> Result<Option<Link>, HvError> {
    let record = observe::record(&host.folder, &domain::get(conn, name)?)?;
    let record = record.filter(|record| record.instance == host.config.instance);
    host.firewall.machines().note(&record.ok_or_else(|| HvError::NoSuchMachine(name.clone()))?);
    Ok(host.firewall.machines().link(name))
}

/// Before a machine ends or begins anew.
pub fn cut(firewall: &Arc<Firewall>, record: &MachineRecord) -> Result<(), HvError> {
    record.link().map_or(Ok(()), |link| firewall.cut_off(&record.name, &link))
}

/// At the start of a reset: the machine is not heard any more. The time matters here. The remaining
/// state of this incarnation, in the rules and the kernel, goes before the next one is connected
/// ([`open`]).
pub fn set_tap_down(firewall: &Firewall, record: &MachineRecord) -> Result<(), HvError> {
    record.nic.as_ref().map_or(Ok(()), |nic| firewall.set_tap_down(&nic.tap))
}

/// A machine that ends takes its tap with it. If the rules cannot be changed now, their remaining
/// elements name no machine then.
pub fn gone(firewall: &Arc<Firewall>, name: &DomainName) {
    let closed = firewall.machines().link(name).map(|link| firewall.cut_off(name, &link));
    if let Some(Err(error)) = closed {
        tracing::warn!(%name, error = &error as &dyn std::error::Error,
            "a link is left to the next change of the rules");
    }
    firewall.machines().forget(name);
}

/// `None` where the thread that reads the log could not be started.
pub fn flows(firewall: &Arc<Firewall>) -> Option<Receiver<Flow>> {
    let listening = firewall.listen_to_flows();
    listening
        .inspect_err(|why| {
            tracing::warn!(error = %why, "no thread reads the log of the machines' connections");
        })
        .ok()
}

/// Does nothing while a machine exists.
pub fn release(host: &Host, conn: &Connect) -> Result<(), HvError> {
    if observe::all(&host.folder, &host.at_work, &host.config.instance, conn)?.is_empty() {
        host.network.remove(conn)?;
        host.firewall.remove()?;
        host.filters.remove(conn)?;
    }
    Ok(())
}
