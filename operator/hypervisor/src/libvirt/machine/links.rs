//! Links of machines: what the rules (`firewall/`) need to hear of libvirt's domains, and the other way round.

use std::collections::BTreeMap;

use agentvm_core::names::DomainName;
use agentvm_core::network::{Flow, Link, Policy};
use ipnet::IpNet;
use tokio::sync::mpsc::Receiver;
use virt::connect::Connect;

use super::observe;
use crate::firewall::unavailable;
use crate::libvirt::connection::domain;
use crate::libvirt::host::state::Host;
use crate::libvirt::host::{nat_network, nwfilter};
use crate::libvirt::store::marks;
use crate::{HvError, MachineRecord};

pub fn put_in_force(
    host: &Host,
    conn: &Connect,
    policies: BTreeMap<String, Policy>,
    deny_list: &[IpNet],
) -> Result<(), HvError> {
    let ours = nat_network::ensure(host, conn)?;
    let machines: Vec<MachineRecord> = if host.firewall.is_new() {
        observe::all(host, conn)?.into_iter().map(|machine| machine.record).collect()
    } else {
        Vec::new()
    };
    host.firewall.enforce(&ours.subnet, policies, deny_list, &machines)
}

/// A machine that may be anything by now stays cut off.
pub fn open(host: &Host, name: &DomainName, link: &Link) -> Result<(), HvError> {
    let dir = host.folder.machine(name);
    let refuse = |detail: &str| Err(unavailable(&format!("connect machine {name}"), detail));
    if marks::is_quarantined(&dir) {
        return refuse("it is quarantined");
    }
    if !dir.ready().exists() {
        return refuse("it is not whole");
    }
    host.firewall.open(name, link)
}

/// A machine that was made by a process before this one.
pub fn look(host: &Host, conn: &Connect, name: &DomainName) -> Result<Option<Link>, HvError> {
    let record = observe::record(host, &domain::get(conn, name)?)?;
    let record = record.filter(|record| record.instance == host.config.instance);
    host.firewall.machines().note(&record.ok_or_else(|| HvError::NoSuchMachine(name.clone()))?);
    Ok(host.firewall.machines().link(name))
}

/// Before a machine ends or begins anew.
pub fn cut(host: &Host, record: &MachineRecord) -> Result<(), HvError> {
    record.link().map_or(Ok(()), |link| host.firewall.close(&record.name, &link))
}

/// At the start of a reset: nobody hears the machine any more. It is in a hurry; what the rules and the kernel still hold of this incarnation
/// goes before the next one is connected ([`open`]).
pub fn set_tap_down(host: &Host, record: &MachineRecord) -> Result<(), HvError> {
    record.nic.as_ref().map_or(Ok(()), |nic| host.firewall.set_tap_down(&nic.tap))
}

/// A machine that ends takes its tap with it. What is left in the rules where they can't be changed now names nobody then.
pub fn gone(host: &Host, name: &DomainName) {
    let closed = host.firewall.machines().link(name).map(|link| host.firewall.close(name, &link));
    if let Some(Err(error)) = closed {
        tracing::warn!(%name, error = &error as &dyn std::error::Error, "a link is left to the next change of the rules");
    }
    host.firewall.machines().forget(name);
}

/// `None` where the log has a reader already, or can't be read.
pub fn flows(host: &Host) -> Option<Receiver<Flow>> {
    let listening = host.firewall.listen_to_flows();
    listening.inspect_err(|why| tracing::warn!(error = %why, "what machines try with their network can't be read")).ok()
}

/// Not while somebody is plugged in.
pub fn release(host: &Host, conn: &Connect) -> Result<(), HvError> {
    if observe::all(host, conn)?.is_empty() {
        nat_network::remove(host, conn)?;
        host.firewall.remove()?;
        nwfilter::remove(host, conn)?;
    }
    Ok(())
}
