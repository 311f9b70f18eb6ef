//! libvirt's own filters on machines' interfaces, for hosts where every interface has to have one (`network.libvirt_filter`).
//!
//! They come on top: our own table (`network/`) is what holds, with them and without. Off by default, because libvirt starts a dozen programs for
//! each machine that starts or ends. A filter of libvirt's has no metadata: whose it is stands in its UUID.
//!
//! On our own bridge a filter looks at frames only. What is routed never passes the rules that libvirt makes for connections, and those would
//! have iptables accept what a machine sends before the rules of other programs see it.

use std::collections::HashMap;
use std::sync::Mutex;

use agentvm_core::names::InstanceId;
use agentvm_core::network::{Nic, Wire};
use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};
use virt::nwfilter::NWFilter;

use super::config::LibvirtFilter;
use super::domain::refused;
use super::host::Host;
use super::interface_xml::Filter;
use super::xml::{Element, el, uuid};
use crate::HvError;
use crate::locks::lock;
use crate::network::unavailable;

const FIRST_NAME: &str = "agent-network-filter";

/// Where an interface is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The installation's own bridge.
    Nat,
    /// The same, with an IPv6 address too. Which parameters there are has to be known of a filter.
    Dual,
    /// A bridge of the host. The addresses there are none of our business, so none is pinned.
    Bridge,
}

/// The names of the filters that this process has defined.
pub type Known = Mutex<HashMap<Kind, String>>;

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
    if let Some(name) = known.get(&kind).filter(|name| find(conn, name, &kind.uuid(instance)).is_some()) {
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
    conn.lookup_nwfilter_by_name(name).ok().filter(|filter| filter.uuid_string().is_ok_and(|its| its == uuid))
}

impl Kind {
    const ALL: [Self; 3] = [Self::Nat, Self::Dual, Self::Bridge];

    fn of(nic: &Nic) -> Self {
        match nic.wire {
            Wire::Nat { ipv6: None, .. } => Self::Nat,
            Wire::Nat { ipv6: Some(_), .. } => Self::Dual,
            Wire::Bridge { .. } => Self::Bridge,
        }
    }

    /// In the order in which they are tried: the first installation of a host has the name that people know.
    fn names(self, instance: &InstanceId) -> [String; 2] {
        let name = match self {
            Self::Nat => FIRST_NAME.to_owned(),
            Self::Dual => format!("{FIRST_NAME}-ipv6"),
            Self::Bridge => format!("{FIRST_NAME}-bridge"),
        };
        let own = format!("{name}-{instance}");
        [name, own]
    }

    fn uuid(self, instance: &InstanceId) -> String {
        uuid(&["filter", self.names(instance)[1].as_str()])
    }

    /// The first rule that fits decides, by priority; those for connections are asked after those for frames.
    fn xml(self, name: &str, instance: &InstanceId) -> Result<String, HvError> {
        let rules = match self {
            Self::Nat => nat(&[("ip", "$IP")]),
            Self::Dual => nat(&[("ip", "$IP"), ("ipv6", "$IPV6")]),
            Self::Bridge => bridge(),
        };
        let filter = el("filter").attr("name", name).attr("chain", "root");
        filter.child(el("uuid").text(self.uuid(instance))).children(rules).render()
    }
}

/// The machine has its own addresses and hears nobody but the gateway.
fn nat(addresses: &[(&'static str, &str)]) -> Vec<Element> {
    let gateway = |what: &'static str| el(what).attr("srcmacaddr", "$GATEWAY_MAC");
    let mut rules = vec![
        no_other_mac(),
        frame("out", own_arp().attr("arpsrcipaddr", "$IP")),
        frame("in", gateway("arp")),
        nothing_else(),
    ];
    for (family, address) in addresses {
        rules.push(frame("out", el(family).attr("srcipaddr", address)));
        rules.push(frame("in", gateway(family).attr("dstipaddr", address)));
    }
    rules
}

/// The machine has its own MAC, begins connections, and accepts none but the answer of a DHCP server.
fn bridge() -> Vec<Element> {
    let dhcp = el("udp").attr("srcportstart", 67).attr("dstportstart", 68);
    vec![
        no_other_mac(),
        frame("out", own_arp()),
        frame("out", el("ip")),
        frame("in", el("arp")),
        frame("in", el("ip")),
        nothing_else(),
        connection("accept", "out", el("all").attr("state", "NEW,ESTABLISHED,RELATED")),
        connection("accept", "in", el("all").attr("state", "ESTABLISHED,RELATED")),
        connection("accept", "in", dhcp),
        connection("drop", "in", el("all")),
    ]
}

fn no_other_mac() -> Element {
    rule("drop", "out", -100).child(el("mac").attr("match", "no").attr("srcmacaddr", "$MAC"))
}

fn own_arp() -> Element {
    el("arp").attr("arpsrcmacaddr", "$MAC")
}

/// VLANs, what other protocols there are, IPv6 where there is no address.
fn nothing_else() -> Element {
    rule("drop", "inout", 0)
}

fn frame(direction: &str, what: Element) -> Element {
    rule("accept", direction, -50).child(what)
}

fn connection(action: &str, direction: &str, what: Element) -> Element {
    rule(action, direction, if action == "drop" { 200 } else { 100 }).child(what)
}

/// `out` is what the machine sends.
fn rule(action: &str, direction: &str, priority: i32) -> Element {
    el("rule").attr("action", action).attr("direction", direction).attr("priority", priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_filter_is_stands_in_its_uuid() {
        let [one, other] = ["/one", "/other"].map(InstanceId::for_state_dir);
        let uuids = Kind::ALL.map(|kind| [&one, &other].map(|instance| kind.uuid(instance)));
        let all: std::collections::BTreeSet<_> = uuids.as_flattened().iter().collect();
        assert_eq!(all.len(), 6);
        assert_eq!(Kind::Nat.names(&one), ["agent-network-filter".to_owned(), format!("agent-network-filter-{one}")]);
    }

    #[test]
    fn libvirt_s_schema_accepts_them() {
        let dir = tempfile::tempdir().unwrap();
        for kind in Kind::ALL {
            let file = dir.path().join("filter.xml");
            std::fs::write(&file, kind.xml(FIRST_NAME, &InstanceId::for_state_dir("/x")).unwrap()).unwrap();
            let output = std::process::Command::new("virt-xml-validate").arg(&file).arg("nwfilter").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
        }
    }
}
