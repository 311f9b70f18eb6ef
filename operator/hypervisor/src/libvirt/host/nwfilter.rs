//! libvirt's own filters on machines' interfaces, for hosts where every interface has to have one
//! (`network.libvirt_filter`).
//!
//! They are an addition: our own table (`firewall/`) protects with them and without. They are off
//! by default, because libvirt starts a dozen programs for each machine that starts or ends. Their
//! rules are in `xml/nwfilter.rs`.

use std::collections::HashMap;
use std::sync::Mutex;

use agentvm_core::names::InstanceId;
use agentvm_core::network::{Mac, Nic};
use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};
use virt::nwfilter::NWFilter;

use crate::HvError;
use crate::firewall::unavailable;
use crate::libvirt::connection::config::LibvirtFilter;
use crate::libvirt::connection::domain::refused;
use crate::libvirt::xml::interface::Filter;
use crate::libvirt::xml::nwfilter::Kind;
use crate::locks::lock;

/// The filters that this process has defined.
#[derive(Debug)]
pub struct Filters {
    instance: InstanceId,
    gateway_mac: Mac,
    wanted: LibvirtFilter,
    /// Their names in libvirt.
    known: Mutex<HashMap<Kind, String>>,
}

impl Filters {
    pub fn new(instance: InstanceId, gateway_mac: Mac, wanted: LibvirtFilter) -> Self {
        Self { instance, gateway_mac, wanted, known: Mutex::default() }
    }

    /// Call it before a machine with this device starts; `None` where no filters are wanted.
    pub fn of(&self, conn: &Connect, nic: &Nic) -> Result<Option<Filter>, HvError> {
        if self.wanted == LibvirtFilter::Disabled {
            return Ok(None);
        }
        let name = self.ensure(conn, Kind::of(nic))?;
        let gateway = nic.address().map(|_| ("GATEWAY_MAC", self.gateway_mac.to_string()));
        let address = nic.address().map(|address| ("IP", address.to_string()));
        let ipv6 = nic.ipv6().map(|address| ("IPV6", address.to_string()));
        Ok(Some(Filter {
            name,
            parameters: gateway.into_iter().chain(address).chain(ipv6).collect(),
        }))
    }

    /// Removes the filters of this installation, also where no filters are wanted any more.
    pub fn remove(&self, conn: &Connect) -> Result<(), HvError> {
        lock(&self.known).clear();
        for kind in Kind::ALL {
            for name in kind.names(&self.instance) {
                if let Some(filter) = find(conn, &name, &kind.uuid(&self.instance)) {
                    filter
                        .undefine()
                        .map_err(refused(format!("remove libvirt's filter {name}")))?;
                }
            }
        }
        Ok(())
    }

    /// The filter of this program: that of another version is replaced when a process first needs
    /// it.
    fn ensure(&self, conn: &Connect, kind: Kind) -> Result<String, HvError> {
        let instance = &self.instance;
        let mut known = lock(&self.known);
        if let Some(name) =
            known.get(&kind).filter(|name| find(conn, name, &kind.uuid(instance)).is_some())
        {
            return Ok(name.clone());
        }
        let mut why_not = None;
        // libvirt refuses a name that another installation or program has, because the UUID
        // differs.
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
}

fn explain(why: &Error) -> String {
    let mend = "install libvirt-daemon-driver-nwfilter and restart libvirtd, or set \
        network.libvirt_filter to disabled";
    let no_driver = why.code().is_known_and(|code| code == ErrorNumber::NoSupport);
    let mend = if no_driver { format!("; {mend}") } else { String::new() };
    format!("{}{mend}", why.message())
}

/// Without such a driver in libvirt there are no filters either.
fn find(conn: &Connect, name: &str, uuid: &str) -> Option<NWFilter> {
    conn.lookup_nwfilter_by_name(name)
        .ok()
        .filter(|filter| filter.uuid_string().is_ok_and(|its| its == uuid))
}
