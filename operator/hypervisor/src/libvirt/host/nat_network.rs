//! The libvirt network of this installation: a bridge that nothing but machines is plugged into.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::sync::Mutex;

use agentvm_core::names::InstanceId;
use agentvm_core::network::{
    ALL_TAKEN, FIRST_BRIDGE, Mac, MachineNetwork, SUBNET_PREFIX, Taken, free_networks,
};
use ipnet::Ipv4Net;
use rustix::fs::FlockOperation;
use virt::connect::Connect;
use virt::network::Network;

use crate::HvError;
use crate::firewall::netlink::{bridge, device};
use crate::firewall::{ipv6, unavailable};
use crate::libvirt::connection::domain::refused;
use crate::libvirt::xml::element::{attribute_of, text_of};
use crate::libvirt::xml::network;
use crate::locks::lock;

/// Another process may take addresses at the moment of the choice. After five tries the cause is
/// another one.
const TRIES: usize = 5;
/// libvirt records the MACs of connected machines here. It makes the folder for its dnsmasq, and
/// our network has none: without the folder no machine starts.
const MAC_MAPS: &str = "/var/lib/libvirt/dnsmasq";
/// The process that chooses addresses holds a lock on this file.
const CHOOSING: &str = "/run/agentvm-network.lock";

/// The network, once it was seen.
#[derive(Debug)]
pub struct NatNetwork {
    instance: InstanceId,
    gateway_mac: Mac,
    known: Mutex<Option<MachineNetwork>>,
}

impl NatNetwork {
    pub fn new(instance: InstanceId, gateway_mac: Mac) -> Self {
        Self { instance, gateway_mac, known: Mutex::default() }
    }

    /// Finds the network, starts it, or makes it.
    pub fn ensure(&self, conn: &Connect) -> Result<MachineNetwork, HvError> {
        let mut known = lock(&self.known);
        if let Some(ours) = known.as_ref().filter(|ours| is_there(&ours.subnet.bridge)) {
            return Ok(ours.clone());
        }
        fs::create_dir_all(MAC_MAPS).map_err(crate::files::io("make", MAC_MAPS.as_ref()))?;
        let ours = match find(conn, &self.instance)? {
            Some((network, ours)) => start(&network, ours, &self.instance)?,
            None => None,
        };
        let ours = ours.map_or_else(|| make(conn, &self.instance, self.gateway_mac), Ok)?;
        bridge::disable_link_local_learning(&ours.subnet.bridge).map_err(|why| {
            unavailable(
                &format!("keep {} from learning from strangers", ours.subnet.bridge),
                why.to_string(),
            )
        })?;
        *known = Some(ours.clone());
        Ok(ours)
    }

    /// Like `ensure`, and prepares the bridge for IPv6. It may be another bridge than the last
    /// time.
    pub fn ensure_ipv6(&self, conn: &Connect) -> Result<(), HvError> {
        let ours = self.ensure(conn)?;
        ipv6::ensure(&self.instance, &ours.subnet)
    }

    /// Removes the network. The caller knows that no machine is plugged in.
    pub fn remove(&self, conn: &Connect) -> Result<(), HvError> {
        let mut known = lock(&self.known);
        if let Some((network, _)) = find(conn, &self.instance)? {
            if network.is_active().unwrap_or(false) {
                network.destroy().map_err(refused("stop the machines' network"))?;
            }
            network.undefine().map_err(refused("remove the machines' network"))?;
        }
        *known = None;
        Ok(())
    }
}

pub fn is_there(bridge: &str) -> bool {
    matches!(device::is_up(bridge), Ok(Some(_)))
}

fn find(
    conn: &Connect,
    instance: &InstanceId,
) -> Result<Option<(Network, MachineNetwork)>, HvError> {
    for network in conn.list_all_networks(0).map_err(refused("list the networks"))? {
        // One that is removed at this moment has no XML any more.
        let Ok(xml) = network.xml_desc(0) else { continue };
        if !network::is_of(&xml, instance) {
            continue;
        }
        if let Some(ours) = network::read(&xml) {
            return Ok(Some((network, ours)));
        }
    }
    Ok(None)
}

/// `None` means that its addresses have been taken meanwhile, and it is gone.
fn start(
    network: &Network,
    ours: MachineNetwork,
    instance: &InstanceId,
) -> Result<Option<MachineNetwork>, HvError> {
    if network.is_active().unwrap_or(false) {
        return Ok(Some(ours));
    }
    let Err(why) = network.create() else { return Ok(Some(ours)) };
    if network.is_active().unwrap_or(false) {
        return Ok(Some(ours));
    }
    tracing::warn!(network = ours.name, %instance,
        "the machines' network can't be started: {}; another one is made", why.message());
    network.undefine().map_err(refused("remove a network that can't be started"))?;
    Ok(None)
}

/// libvirt refuses taken names and used addresses, but not those of a network that starts at this
/// moment. So installations choose one after the other.
fn make(conn: &Connect, instance: &InstanceId, mac: Mac) -> Result<MachineNetwork, HvError> {
    let _turn = turn();
    let taken = look(conn)?;
    let mut why_not = Vec::new();
    for choice in free_networks(instance, &taken).into_iter().take(TRIES) {
        let made =
            conn.define_network_xml(&network::xml(&choice, instance, mac)?).and_then(|network| {
                network.create().inspect_err(|_| {
                    let _ = network.undefine();
                })
            });
        match made {
            Ok(()) => {
                tracing::info!(network = choice.name, bridge = choice.subnet.bridge,
                    subnet = %choice.subnet.net(), "network for machines made");
                return Ok(choice);
            }
            Err(why) => why_not.push(format!("{}: {}", choice.subnet.net(), why.message())),
        }
    }
    let why = why_not.first().cloned().unwrap_or_else(|| ALL_TAKEN.to_owned());
    Err(unavailable("make a libvirt network", why))
}

/// Until it is dropped, no other process of this host chooses. If the file cannot be made (a
/// container), there is no other process to wait for.
fn turn() -> Option<File> {
    let file = File::options().write(true).create(true).truncate(false).open(CHOOSING).ok()?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).ok()?;
    Some(file)
}

/// The names and addresses that others have.
fn look(conn: &Connect) -> Result<Taken, HvError> {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let mut taken = Taken { nets: read_routes(&routes), ..Taken::default() };
    for network in conn.list_all_networks(0).map_err(refused("list the networks"))? {
        let Ok(xml) = network.xml_desc(0) else { continue };
        taken.names.extend(text_of(&xml, "name"));
        taken.bridges.extend(attribute_of(&xml, "bridge", "name"));
        let address =
            attribute_of(&xml, "ip", "address").and_then(|text| text.parse::<Ipv4Addr>().ok());
        taken.nets.extend(address.and_then(|address| Ipv4Net::new(address, SUBNET_PREFIX).ok()));
    }
    // A bridge of another program is in no list of libvirt.
    if is_there(FIRST_BRIDGE) {
        taken.bridges.insert(FIRST_BRIDGE.to_owned());
    }
    Ok(taken)
}

/// Destinations of the host's routes, without the default: `/proc/net/route` has them as numbers of
/// the host's byte order.
fn read_routes(table: &str) -> Vec<Ipv4Net> {
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (to, mask) = (number(fields.get(1)?)?, number(fields.get(7)?)?);
        Ipv4Net::new(to.into(), u8::try_from(mask.count_ones()).ok()?).ok()
    };
    table.lines().skip(1).filter_map(route).filter(|net| net.prefix_len() > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_and_the_default_is_none() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(read_routes(table), ["192.0.2.0/24".parse().unwrap()]);
    }
}
