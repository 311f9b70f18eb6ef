//! libvirt's own filters on machines' interfaces, for hosts where every interface has to have one (`network.libvirt_filter`).
//!
//! They come on top: our own table (`network/`) is what holds, with them and without. Off by default, because libvirt starts a dozen programs for
//! each machine that starts or ends. What they say is in `filter_xml.rs`.

use agentvm_core::network::Nic;
use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};
use virt::nwfilter::NWFilter;

use super::state::Host;
use crate::HvError;
use crate::firewall::unavailable;
use crate::libvirt::connection::config::LibvirtFilter;
use crate::libvirt::connection::domain::refused;
use crate::libvirt::xml::interface::Filter;
use crate::libvirt::xml::nwfilter::Kind;
use crate::locks::lock;

/// Before a machine with this device starts; `None` where nobody asked for filters.
pub fn of(host: &Host, conn: &Connect, nic: &Nic) -> Result<Option<Filter>, HvError> {
    if host.config.filter == LibvirtFilter::Disabled {
        return Ok(None);
    }
    let name = ensure(host, conn, Kind::of(nic))?;
    let gateway = nic.address().map(|_| ("GATEWAY_MAC", host.firewall.gateway_mac().to_string()));
    let address = nic.address().map(|address| ("IP", address.to_string()));
    let ipv6 = nic.ipv6().map(|address| ("IPV6", address.to_string()));
    Ok(Some(Filter { name, parameters: gateway.into_iter().chain(address).chain(ipv6).collect() }))
}

/// Those of this installation go, also where nobody asks for them any more.
pub fn remove(host: &Host, conn: &Connect) -> Result<(), HvError> {
    lock(&host.filters).clear();
    for kind in Kind::ALL {
        for name in kind.names(&host.config.instance) {
            if let Some(filter) = find(conn, &name, &kind.uuid(&host.config.instance)) {
                filter.undefine().map_err(refused(format!("remove libvirt's filter {name}")))?;
            }
        }
    }
    Ok(())
}

/// As this program would have it: whatever another version of it left is replaced when a process first needs it.
fn ensure(host: &Host, conn: &Connect, kind: Kind) -> Result<String, HvError> {
    let instance = &host.config.instance;
    let mut known = lock(&host.filters);
    if let Some(name) =
        known.get(&kind).filter(|name| find(conn, name, &kind.uuid(instance)).is_some())
    {
        return Ok(name.clone());
    }
    let mut why_not = None;
    // A name that another installation has, or somebody else, is refused by libvirt, as the UUID is another.
    for name in kind.names(instance) {
        match conn.define_nwfilter_xml(&kind.xml(&name, instance)?) {
            Ok(_) => {
                tracing::info!(name, "libvirt's filter for machines defined");
                known.insert(kind, name.clone());
                return Ok(name);
            }
            Err(why) => why_not = Some(why),
        }
    }
    let why = why_not.map(|why| explain(&why)).unwrap_or_default();
    Err(unavailable("define libvirt's network filter", why))
}

fn explain(why: &Error) -> String {
    let mend = "install libvirt-daemon-driver-nwfilter and restart libvirtd, or set network.libvirt_filter to disabled";
    let no_driver = why.code().is_known_and(|code| code == ErrorNumber::NoSupport);
    let mend = if no_driver { format!("; {mend}") } else { String::new() };
    format!("{}{mend}", why.message())
}

/// Where libvirt has no such driver, there is none either.
fn find(conn: &Connect, name: &str, uuid: &str) -> Option<NWFilter> {
    conn.lookup_nwfilter_by_name(name)
        .ok()
        .filter(|filter| filter.uuid_string().is_ok_and(|its| its == uuid))
}
