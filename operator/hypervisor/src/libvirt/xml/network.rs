//! The XML of the machines' network, written and read back.
//!
//! The metadata of a network names its owner. libvirt adds no rules (`open`), gives out no
//! addresses and answers no names: no program of the host listens to machines.

use agentvm_core::names::InstanceId;
use agentvm_core::network::{Mac, MachineNetwork, SUBNET_PREFIX, Subnet};

use super::element::{attribute_of, el, text_of};
use crate::HvError;

const NAMESPACE: &str = "https://agentvm.dev/network/1";
pub fn is_of(xml: &str, instance: &InstanceId) -> bool {
    text_of(xml, "installation").as_deref() == Some(instance.as_str())
}

/// `None` means another owner, or a form that we do not write.
pub fn read(xml: &str) -> Option<MachineNetwork> {
    let bridge = attribute_of(xml, "bridge", "name")?;
    let gateway = attribute_of(xml, "ip", "address")?.parse().ok()?;
    Some(MachineNetwork {
        name: text_of(xml, "name")?,
        subnet: Subnet { bridge, gateway, prefix: SUBNET_PREFIX },
    })
}

pub fn xml(ours: &MachineNetwork, instance: &InstanceId, mac: Mac) -> Result<String, HvError> {
    let whose = el("agentvm:installation").attr("xmlns:agentvm", NAMESPACE).text(instance);
    el("network")
        .child(el("name").text(&ours.name))
        .child(el("metadata").child(whose))
        .child(el("forward").attr("mode", "open"))
        .child(el("bridge").attr("name", &ours.subnet.bridge).attr("stp", "off").attr("delay", 0))
        .child(el("mac").attr("address", mac))
        .child(el("dns").attr("enable", "no"))
        .child(el("ip").attr("address", ours.subnet.gateway).attr("prefix", SUBNET_PREFIX))
        .render()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use agentvm_core::network::derive_mac;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let id = InstanceId::for_state_dir("/var/lib/agentvm");
        let ours = MachineNetwork {
            name: "agent-nat-filtered".to_owned(),
            subnet: Subnet {
                bridge: "agentvm0".to_owned(),
                gateway: Ipv4Addr::new(192, 168, 101, 1),
                prefix: SUBNET_PREFIX,
            },
        };
        let text = xml(&ours, &id, derive_mac(&["gateway"])).unwrap();
        assert_eq!(read(&text), Some(ours));
        assert!(is_of(&text, &id) && !is_of(&text, &InstanceId::for_state_dir("/other")));
    }
}
