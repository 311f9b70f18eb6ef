//! The network device in a domain's XML, and the part of the host that it is attached to.

use agentvm_core::network::Mac;

use super::element::{Element, el};

/// The host's side of a machine's device, as its domain has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plug {
    pub tap: String,
    pub mac: Mac,
    pub socket: Socket,
    pub filter: Option<Filter>,
}

/// The attachment: a libvirt network, or a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Socket {
    Network(String),
    Bridge(String),
}

/// The filter of an interface, and the machine's own addresses for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub name: String,
    pub parameters: Vec<(&'static str, String)>,
}

/// vhost is not used: the host's kernel would read a guest's rings, and write memory that a reset
/// must find untouched. There is no boot ROM, which would be one more thing in the memory of a
/// golden. The carrier is always on: the tap decides whether the machine is connected.
pub fn interface(plug: &Plug) -> Element {
    let (kind, source) = match &plug.socket {
        Socket::Network(name) => ("network", el("source").attr("network", name)),
        Socket::Bridge(name) => ("bridge", el("source").attr("bridge", name)),
    };
    el("interface")
        .attr("type", kind)
        .child(el("mac").attr("address", plug.mac))
        .child(source)
        .child(el("target").attr("dev", &plug.tap))
        .child(el("model").attr("type", "virtio"))
        .child(el("driver").attr("name", "qemu"))
        .child(el("port").attr("isolated", "yes"))
        .child(el("rom").attr("enabled", "no"))
        .children(plug.filter.as_ref().map(filterref))
}

fn filterref(filter: &Filter) -> Element {
    let parameter = |(name, value): &(&'static str, String)| {
        el("parameter").attr("name", name).attr("value", value)
    };
    el("filterref").attr("filter", &filter.name).children(filter.parameters.iter().map(parameter))
}
