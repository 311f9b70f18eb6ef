//! The filters that libvirt may put on machines' interfaces, as a pure function of the attachment.
//!
//! On our own bridge a filter looks at frames only. Routed packets never pass the rules that
//! libvirt makes for connections, and those rules would make iptables accept a machine's packets
//! before the rules of other programs see them. A libvirt filter has no metadata; its UUID names
//! its owner.

use agentvm_core::names::InstanceId;
use agentvm_core::network::{Nic, Wire};

use super::element::{Element, el, uuid};
use crate::HvError;

const FIRST_NAME: &str = "agent-network-filter";

/// Where an interface is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The installation's own bridge.
    Nat,
    /// The filter with an IPv6 address. A filter's parameters must be known.
    Dual,
    /// A bridge of the host. A DHCP server gives the addresses there, so none is pinned.
    Bridge,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Nat, Self::Dual, Self::Bridge];

    pub fn of(nic: &Nic) -> Self {
        match nic.wire {
            Wire::Nat { ipv6: None, .. } => Self::Nat,
            Wire::Nat { ipv6: Some(_), .. } => Self::Dual,
            Wire::Bridge { .. } => Self::Bridge,
        }
    }

    /// The names in the order of trying: the first installation of a host has the well-known name.
    pub fn names(self, instance: &InstanceId) -> [String; 2] {
        let name = match self {
            Self::Nat => FIRST_NAME.to_owned(),
            Self::Dual => format!("{FIRST_NAME}-ipv6"),
            Self::Bridge => format!("{FIRST_NAME}-bridge"),
        };
        let own = format!("{name}-{instance}");
        [name, own]
    }

    pub fn uuid(self, instance: &InstanceId) -> String {
        uuid(&["filter", self.names(instance)[1].as_str()])
    }

    /// The first rule that fits decides, by priority; rules for connections come after those for
    /// frames.
    pub fn xml(self, name: &str, instance: &InstanceId) -> Result<String, HvError> {
        let rules = match self {
            Self::Nat => nat(&[("ip", "$IP")]),
            Self::Dual => nat(&[("ip", "$IP"), ("ipv6", "$IPV6")]),
            Self::Bridge => bridge(),
        };
        let filter = el("filter").attr("name", name).attr("chain", "root");
        filter.child(el("uuid").text(self.uuid(instance))).children(rules).render()
    }
}

/// The machine has its own addresses and hears only the gateway.
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

/// The machine has its own MAC, begins connections, and accepts only the answer of a DHCP server.
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

/// VLANs, other protocols, and IPv6 where there is no address.
fn nothing_else() -> Element {
    rule("drop", "inout", 0)
}

fn frame(direction: &str, what: Element) -> Element {
    rule("accept", direction, -50).child(what)
}

fn connection(action: &str, direction: &str, what: Element) -> Element {
    rule(action, direction, if action == "drop" { 200 } else { 100 }).child(what)
}

/// `out` is the direction from the machine.
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
        assert_eq!(
            Kind::Nat.names(&one),
            ["agent-network-filter".to_owned(), format!("agent-network-filter-{one}")]
        );
    }

    #[test]
    fn libvirt_s_schema_accepts_them() {
        let dir = tempfile::tempdir().unwrap();
        for kind in Kind::ALL {
            let file = dir.path().join("filter.xml");
            std::fs::write(&file, kind.xml(FIRST_NAME, &InstanceId::for_state_dir("/x")).unwrap())
                .unwrap();
            let output = std::process::Command::new("virt-xml-validate")
                .arg(&file)
                .arg("nwfilter")
                .output()
                .unwrap();
            let said =
                String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
        }
    }
}
