//! What to add to a pool's `allow`, so that something that was denied is reached; or why nothing would help.

use std::net::Ipv4Addr;

use agentvm_crds::Protocol;
use ipnet::Ipv4Net;

use super::{FlowVerdict, Target, TargetKind};

/// The destination, and what to do about it, in one line. `never`: what no policy opens, on top of what none ever does.
pub fn advice(target: &Target, verdict: FlowVerdict, never: &[Ipv4Net]) -> String {
    let what = match verdict {
        FlowVerdict::Allowed | FlowVerdict::Denied => remedy(target, never),
        FlowVerdict::Limited => "the machine had its share: raise spec.limits".to_owned(),
        FlowVerdict::Frame if matches!(target.kind, TargetKind::Ip(_)) => {
            "its source is not the machine's; in mode Bridge: or spec.network.allow would have to name it".to_owned()
        }
        FlowVerdict::Frame => "no machine may send that, whatever is allowed".to_owned(),
    };
    format!("{target} ({what})")
}

fn remedy(target: &Target, never: &[Ipv4Net]) -> String {
    let TargetKind::Ip(protocol) = target.kind else {
        return "only TCP, UDP and ICMP can be allowed".to_owned();
    };
    let Some(to) = target.ipv4().filter(|to| !is_nowhere(*to)) else {
        return "no such address can be allowed".to_owned();
    };
    // Cloud metadata among them: what is there is meant for the host.
    if to.is_link_local() {
        return "link-local and metadata addresses are kept from machines".to_owned();
    }
    if never.iter().any(|net| net.contains(&to)) {
        return "the host, its cluster and other machines are kept from machines".to_owned();
    }
    match (protocol, target.port) {
        (Protocol::Icmp, _) if !is_private(to) => "of ICMP only echo requests are let through".to_owned(),
        (Protocol::Icmp, _) => format!("add to spec.network.allow: {}", entry(protocol, None, to)),
        (_, None) => "a fragment without a port can't be allowed".to_owned(),
        (_, Some(53)) => {
            format!("names are asked of the pool's resolver only: use it, or set spec.network.resolver: {to}")
        }
        (_, Some(port)) => format!("add to spec.network.allow: {}", entry(protocol, Some(port), to)),
    }
}

fn entry(protocol: Protocol, port: Option<u16>, to: Ipv4Addr) -> String {
    let ports = port.map(|port| format!(", ports: [{port}]")).unwrap_or_default();
    format!("{{protocol: {}{ports}, cidrs: [{to}/32]}}", protocol.as_str())
}

fn is_private(to: Ipv4Addr) -> bool {
    let shared = to.octets()[0] == 100 && to.octets()[1] & 0xc0 == 64;
    to.is_private() || shared
}

fn is_nowhere(to: Ipv4Addr) -> bool {
    to.octets()[0] == 0 || to.is_loopback() || to.is_multicast() || to.octets()[0] >= 240
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::Destination;
    use super::*;

    fn said(protocol: Protocol, to: [u8; 4], port: Option<u16>) -> String {
        let to = Destination::Address(IpAddr::V4(to.into()));
        advice(
            &Target { kind: TargetKind::Ip(protocol), to, port },
            FlowVerdict::Denied,
            &["192.168.101.0/24".parse().unwrap()],
        )
    }

    #[test]
    fn what_can_be_allowed_is_said_as_it_is_written() {
        let tcp = said(Protocol::Tcp, [203, 0, 113, 9], Some(8080));
        let entry = "add to spec.network.allow: {protocol: TCP, ports: [8080], cidrs: [203.0.113.9/32]}";
        assert_eq!(tcp, format!("TCP 203.0.113.9 port 8080 ({entry})"));
        let ping = said(Protocol::Icmp, [10, 1, 2, 3], None);
        assert!(ping.contains("{protocol: ICMP, cidrs: [10.1.2.3/32]}"), "{ping}");
        assert!(said(Protocol::Udp, [203, 0, 113, 8], Some(53)).contains("spec.network.resolver: 203.0.113.8"));
    }

    #[test]
    fn what_can_not_is_not_promised() {
        let metadata = said(Protocol::Tcp, [169, 254, 169, 254], Some(80));
        let loopback = said(Protocol::Tcp, [127, 0, 0, 1], Some(80));
        let host = said(Protocol::Tcp, [192, 168, 101, 1], Some(22));
        assert!(said(Protocol::Tcp, [192, 168, 102, 1], Some(22)).contains("add to"));
        let fragment = said(Protocol::Udp, [203, 0, 113, 8], None);
        for text in [metadata, loopback, fragment, host] {
            assert!(!text.contains("add to"), "{text}");
        }
        let target = Target { kind: TargetKind::Arp, to: Destination::Unknown, port: None };
        assert!(advice(&target, FlowVerdict::Frame, &[]).contains("whatever is allowed"));
        assert!(advice(&target, FlowVerdict::Limited, &[]).contains("spec.limits"));
    }
}
