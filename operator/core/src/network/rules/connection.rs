//! The decision of the rules about one connection, in another form: for existing connections when a
//! policy changes. `tests/property.rs` compares it with the rules.

use std::net::IpAddr;

use agentvm_crds::Protocol;
use ipnet::IpNet;

use super::ranges::{names_private, nowhere, private};
use crate::network::DEFAULT_PORTS;
use crate::network::{Allow, Policy};

const DNS: u16 = 53;

/// Where a machine's connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub protocol: Protocol,
    pub to: IpAddr,
    /// The port of TCP and UDP.
    pub port: u16,
}

/// Whether a machine of this policy may have it. `deny_list`: destinations that no
/// policy opens.
pub fn lets_through(policy: &Policy, deny_list: &[IpNet], connection: &Connection) -> bool {
    let Connection { protocol, to, port } = *connection;
    let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&to));
    let names = |allow: &&Allow, private: bool| {
        let nets = allow.cidrs.iter().filter(|net| names_private(net) == private);
        nets.into_iter().any(|net| net.contains(&to)) && serves(allow, connection)
    };
    if within(deny_list) || within(&nowhere()) || (to.is_ipv6() && !policy.ipv6) {
        return false;
    }
    let asks = policy.resolvers.iter().any(|resolver| to == *resolver)
        && port == DNS
        && protocol != Protocol::Icmp;
    if asks || policy.allow.iter().any(|allow| names(&allow, true)) {
        return true;
    }
    if within(&private()) {
        return false;
    }
    let everybody =
        protocol == Protocol::Icmp || (protocol == Protocol::Tcp && DEFAULT_PORTS.contains(&port));
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
    use std::net::Ipv4Addr;

    use super::*;
    use crate::network::{LinkLimits, PortRange};

    fn tcp(to: [u8; 4], port: u16) -> Connection {
        Connection { protocol: Protocol::Tcp, to: to.into(), port }
    }

    fn policy(allow: Vec<Allow>) -> Policy {
        let limits =
            LinkLimits { bytes_per_second: None, packets_per_second: 1000, connections: 64 };
        Policy {
            generation: 1,
            ipv6: false,
            allow,
            resolvers: vec![Ipv4Addr::new(10, 0, 0, 53)],
            limits,
        }
    }

    fn allow(ports: &[u16], cidrs: &[&str]) -> Allow {
        let ports = ports.iter().map(|port| PortRange { first: *port, last: *port }).collect();
        Allow {
            protocol: Protocol::Tcp,
            ports,
            cidrs: cidrs.iter().map(|net| net.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn what_is_not_allowed_any_more_is_not_let_through() {
        let narrow = policy(vec![]);
        let wide =
            policy(vec![allow(&[8080], &["203.0.113.0/24"]), allow(&[5000], &["10.1.0.0/16"])]);
        let (web, odd, inner) =
            (tcp([203, 0, 113, 80], 443), tcp([203, 0, 113, 80], 8080), tcp([10, 1, 2, 3], 5000));
        assert!([&web, &odd, &inner].iter().all(|connection| lets_through(&wide, &[], connection)));
        assert!(lets_through(&narrow, &[], &web) && !lets_through(&narrow, &[], &odd));
        assert!(
            !lets_through(&narrow, &[], &inner)
                && !lets_through(&wide, &[], &tcp([10, 2, 0, 1], 5000))
        );
        assert!(
            lets_through(&narrow, &[], &tcp([10, 0, 0, 53], 53))
                && !lets_through(&narrow, &[], &tcp([10, 0, 0, 53], 80))
        );
        assert!(!lets_through(&wide, &["203.0.113.80/32".parse().unwrap()], &web));
        let any = policy(vec![allow(&[], &[])]);
        assert!(
            lets_through(&any, &[], &odd) && !lets_through(&any, &[], &tcp([203, 0, 113, 80], 53))
        );
        // Azure's platform is a resolver and more: named, it is that and no more.
        let azure = Ipv4Addr::new(168, 63, 129, 16);
        let asks = Policy { resolvers: vec![azure], ..narrow.clone() };
        let at = |port| tcp(azure.octets(), port);
        assert!(lets_through(&asks, &[], &at(53)) && !lets_through(&asks, &[], &at(80)));
        assert!(!lets_through(&any, &[], &at(80)) && !lets_through(&any, &[], &at(32_526)));
        assert!(lets_through(
            &policy(vec![allow(&[32_526], &["168.63.129.16/32"])]),
            &[],
            &at(32_526)
        ));
        let six = Connection { to: "2001:db8::80".parse().unwrap(), ..web };
        assert!(
            !lets_through(&any, &[], &six)
                && lets_through(&Policy { ipv6: true, ..any }, &[], &six)
        );
    }
}
