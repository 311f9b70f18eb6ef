//! IPv6 on the machines' bridge, where a pool asks for it: the gateway's address, and the known
//! neighbours.
//!
//! libvirt could give the bridge an address as well, but only from the start. Then the host would
//! have IPv6 on it for pools that never asked. No discovery runs on that wire: a machine knows the
//! gateway's MAC, and this file tells the host the MAC of every possible machine. A bridge without
//! a link-local address sends nothing by itself.

use std::fs;
use std::io;
use std::net::Ipv6Addr;

use agentvm_core::names::InstanceId;
use agentvm_core::network::{Nic, Subnet, gateway6, ula};

use super::netlink::{address, device, neighbour};
use super::router_announcements::{self, Interface};
use super::unavailable;
use crate::HvError;

const WHAT: &str = "route IPv6 for machines";
const SETTINGS: &str = "/proc/sys/net/ipv6/conf";

/// Settings of the bridge: it believes no router and no redirect, and gives itself no address. They
/// come before it is switched on.
const QUIET: [(&str, &str); 5] = [
    ("accept_ra", "0"),
    ("autoconf", "0"),
    ("accept_redirects", "0"),
    ("addr_gen_mode", "1"),
    ("disable_ipv6", "0"),
];

/// Cheap, where it is done already.
pub fn ensure(instance: &InstanceId, subnet: &Subnet) -> Result<(), HvError> {
    forward()?;
    let bridge = &subnet.bridge;
    let gateway = gateway6(ula(instance));
    if has(bridge, gateway) {
        return Ok(());
    }
    for (setting, value) in QUIET {
        set(bridge, setting, value)?;
    }
    let failed = |why: io::Error| unavailable(WHAT, format!("{bridge}: {why}"));
    let index = device::index(bridge).map_err(failed)?;
    for nic in subnet.machines().map(|address| Nic::dual(instance, subnet, address)) {
        let pinned = nic.ipv6().map_or(Ok(()), |to| neighbour::pin_address(index, to, nic.mac));
        pinned.map_err(failed)?;
    }
    // This comes last: it shows that all is done.
    address::add(index, gateway, ula(instance).prefix_len()).map_err(failed)
}

/// Only where it cuts no host off: a host that forwards does not listen to routers, unless it is
/// told to.
fn forward() -> Result<(), HvError> {
    let switch = read("all", "forwarding");
    let switch =
        switch.map_err(|why| unavailable(WHAT, format!("this host has no IPv6: {why}")))?;
    if switch == "1" {
        return Ok(());
    }
    let routes = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    let setting = |name: &str| {
        let number = |setting| read(name, setting).ok()?.parse().ok();
        Some(Interface { accepts: number("accept_ra")?, forwards: number("forwarding")? })
    };
    if let Some(name) = router_announcements::needed_by(&routes, setting) {
        let detail = format!(
            "this host's interface {name} has its IPv6 route from a router's announcements, which \
                a host that routes ignores; let it \
             listen all the same (sysctl -w net.ipv6.conf.{name}.accept_ra=2, and the same in \
             /etc/sysctl.d), or remove IPv6 from the \
             pool's spec.network.ipFamilies"
        );
        return Err(unavailable(WHAT, detail));
    }
    tracing::info!("a pool asks for IPv6: net.ipv6.conf.all.forwarding is set to 1");
    set("all", "forwarding", "1")
}

fn has(bridge: &str, address: Ipv6Addr) -> bool {
    let text = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
    let wanted = format!("{:032x}", address.to_bits());
    text.lines()
        .any(|line| line.starts_with(&wanted) && line.split_whitespace().last() == Some(bridge))
}

fn read(name: &str, setting: &str) -> io::Result<String> {
    Ok(fs::read_to_string(format!("{SETTINGS}/{name}/{setting}"))?.trim().to_owned())
}

/// If it cannot be written, it may have the right value already.
fn set(name: &str, setting: &str, value: &str) -> Result<(), HvError> {
    if read(name, setting).is_ok_and(|now| now == value) {
        return Ok(());
    }
    fs::write(format!("{SETTINGS}/{name}/{setting}"), value).map_err(|why| {
        let detail = format!(
            "net.ipv6.conf.{name}.{setting} can't be set to {value}: {why}; where /proc/sys can't \
                be written (a container), set it on the host"
        );
        unavailable(WHAT, detail)
    })
}
