//! Connections that the kernel remembers of a machine, and which of them a policy that has changed doesn't let through any more.
//!
//! The rules judge every packet that a machine sends, so none of those connections goes on; but what the other side still sends would come
//! in as the answer that it is. So they are forgotten. Those that are still allowed are left alone.

use std::net::Ipv4Addr;

use agentvm_core::network::rules::{DEFAULT_PORTS, names_private, private};
use agentvm_core::network::{Allow, Link, Policy, Protocol};
use ipnet::Ipv4Net;

use super::nft::conntrack;
use crate::HvError;

const DNS: u16 = 53;

/// One that a machine has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Connection {
    protocol: Protocol,
    to: Ipv4Addr,
    /// Of TCP and UDP.
    from_port: u16,
    port: u16,
}

/// Forgets all of a machine's. None is fine.
pub fn flush(link: &Link) -> Result<(), HvError> {
    let Some(address) = link.nic.address() else { return Ok(()) };
    // Nothing comes in by itself, so the machine has begun all of them.
    conntrack(&format!("forget the connections of {address}"), &["-D", "-s", &address.to_string()]).map(drop)
}

/// Forgets those that may not be any more.
pub fn flush_refused(link: &Link, policy: &Policy, never: &[Ipv4Net]) -> Result<(), HvError> {
    let Some(address) = link.nic.address() else { return Ok(()) };
    let (what, address) = (format!("look at the connections of {address}"), address.to_string());
    let list = conntrack(&what, &["-L", "-s", &address])?;
    for gone in list.lines().filter_map(connection).filter(|connection| !lets_through(policy, never, connection)) {
        let Connection { protocol, to, from_port, port } = gone;
        let (to, from_port, port) = (to.to_string(), from_port.to_string(), port.to_string());
        let one = ["-D", "-s", &address, "-d", &to, "-p", &protocol.as_str().to_lowercase()].map(str::to_owned);
        let ports = ["--sport", &from_port, "--dport", &port].map(str::to_owned);
        let ports = if protocol == Protocol::Icmp { &[][..] } else { &ports[..] };
        let all: Vec<&str> = one.iter().chain(ports).map(String::as_str).collect();
        conntrack(&format!("forget a connection of {address} to {to}"), &all)?;
    }
    Ok(())
}

/// `tcp 6 431999 ESTABLISHED src=… dst=… sport=… dport=… src=…`: the first of each is the machine's side.
fn connection(line: &str) -> Option<Connection> {
    let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let protocol = match line.split_whitespace().next()? {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "icmp" => Protocol::Icmp,
        _ => return None,
    };
    let port = |name| field(name).and_then(|text| text.parse().ok()).unwrap_or_default();
    Some(Connection { protocol, to: field("dst")?.parse().ok()?, from_port: port("sport"), port: port("dport") })
}

/// As the rules decide it.
fn lets_through(policy: &Policy, never: &[Ipv4Net], connection: &Connection) -> bool {
    let Connection { protocol, to, port, .. } = *connection;
    let names = |allow: &&Allow, private: bool| {
        let nets = allow.cidrs.iter().filter(|net| names_private(net) == private);
        nets.into_iter().any(|net| net.contains(&to)) && serves(allow, connection)
    };
    if never.iter().any(|net| net.contains(&to)) {
        return false;
    }
    let asks = policy.resolvers.contains(&to) && port == DNS && protocol != Protocol::Icmp;
    if asks || policy.allow.iter().any(|allow| names(&allow, true)) {
        return true;
    }
    if private().iter().any(|net| net.contains(&to)) {
        return false;
    }
    let everybody = protocol == Protocol::Icmp || (protocol == Protocol::Tcp && DEFAULT_PORTS.contains(&port));
    let anywhere = |allow: &Allow| allow.cidrs.is_empty() && serves(allow, connection);
    everybody || policy.allow.iter().any(|allow| anywhere(allow) || names(&allow, false))
}

fn serves(allow: &Allow, connection: &Connection) -> bool {
    let port = connection.port;
    let ports = match allow.ports.as_slice() {
        [] => port != DNS,
        ranges => ranges.iter().any(|range| (range.first..=range.last).contains(&port)),
    };
    allow.protocol == connection.protocol && (ports || allow.protocol == Protocol::Icmp)
}

#[cfg(test)]
mod tests {
    use agentvm_core::network::{LinkLimits, PortRange};

    use super::*;

    fn tcp(to: [u8; 4], port: u16) -> Connection {
        Connection { protocol: Protocol::Tcp, to: to.into(), from_port: 40_000, port }
    }

    fn policy(allow: Vec<Allow>) -> Policy {
        let limits = LinkLimits { bytes_per_second: None, packets_per_second: 1000, connections: 64 };
        Policy { generation: 1, allow, resolvers: vec![Ipv4Addr::new(10, 0, 0, 53)], limits }
    }

    fn allow(ports: &[u16], cidrs: &[&str]) -> Allow {
        let ports = ports.iter().map(|port| PortRange { first: *port, last: *port }).collect();
        Allow { protocol: Protocol::Tcp, ports, cidrs: cidrs.iter().map(|net| net.parse().unwrap()).collect() }
    }

    #[test]
    fn conntrack_s_lines_are_read_from_the_machine_s_side() {
        let line = "tcp      6 431999 ESTABLISHED src=192.168.101.10 dst=203.0.113.80 sport=40000 dport=8080 \
                    src=203.0.113.80 dst=203.0.113.254 sport=8080 dport=40000 [ASSURED] mark=0 use=1";
        assert_eq!(connection(line), Some(tcp([203, 0, 113, 80], 8080)));
        let ping = "icmp     1 29 src=192.168.101.10 dst=203.0.113.80 type=8 code=0 id=7 src=203.0.113.80 dst=x type=0";
        assert_eq!(connection(ping).map(|c| (c.protocol, c.port)), Some((Protocol::Icmp, 0)));
        assert_eq!(connection("conntrack v1.4.7: 0 flow entries have been shown."), None);
    }

    #[test]
    fn what_is_not_allowed_any_more_is_not_let_through() {
        let narrow = policy(vec![]);
        let wide = policy(vec![allow(&[8080], &["203.0.113.0/24"]), allow(&[5000], &["10.1.0.0/16"])]);
        let (web, odd, inner) = (tcp([203, 0, 113, 80], 443), tcp([203, 0, 113, 80], 8080), tcp([10, 1, 2, 3], 5000));
        assert!([&web, &odd, &inner].iter().all(|connection| lets_through(&wide, &[], connection)));
        assert!(lets_through(&narrow, &[], &web) && !lets_through(&narrow, &[], &odd));
        assert!(!lets_through(&narrow, &[], &inner) && !lets_through(&wide, &[], &tcp([10, 2, 0, 1], 5000)));
        assert!(
            lets_through(&narrow, &[], &tcp([10, 0, 0, 53], 53))
                && !lets_through(&narrow, &[], &tcp([10, 0, 0, 53], 80))
        );
        assert!(!lets_through(&wide, &["203.0.113.80/32".parse().unwrap()], &web));
        let any = policy(vec![allow(&[], &[])]);
        assert!(lets_through(&any, &[], &odd) && !lets_through(&any, &[], &tcp([203, 0, 113, 80], 53)));
    }
}
