//! How every machine of ours starts: plugged in, paused, within its limits, and cut off.

use virt::connect::Connect;
use virt::domain::Domain;

use super::domain_xml::DomainSpec;
use super::golden::Recipe;
use super::host::Host;
use super::interface_xml::Plug;
use super::{domain, limits, network};
use crate::{HvError, MachineRecord};

/// `spec` is what is started, once it is known what it is plugged into.
pub fn paused(
    host: &Host,
    conn: &Connect,
    record: &MachineRecord,
    recipe: &Recipe,
    spec: impl FnOnce(Option<Plug>) -> Result<DomainSpec, HvError>,
) -> Result<Domain, HvError> {
    let plug = network::prepare(host, conn, record.nic.as_ref())?;
    let xml = spec(plug)?.to_xml()?;
    let started = domain::start(conn, &record.name, &xml, true)?;
    limits::memory(&started, host.memory_limit_mib(&recipe.resources, recipe.kvm));
    network::closed(host, record)?;
    Ok(started)
}
