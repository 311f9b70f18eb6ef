//! The text of the Event `NetworkDenied`: the entry that a pool's `allow` needs so that a denied
//! destination can be reached, or why no entry would help.

use std::net::IpAddr;

use agentvm_crds::Protocol;
use ipnet::IpNet;

use super::rules::{nowhere, private};
use super::{FlowVerdict, Target, TargetKind};

/// The destination and the remedy, in one line. `deny_list` has destinations that no policy opens,
/// besides those that are never opened.
pub fn advice(target: &Target, verdict: FlowVerdict, deny_list: &[IpNet]) -> String {
    let what = match verdict {
        FlowVerdict::Allowed | FlowVerdict::Denied => remedy(target, deny_list),
        FlowVerdict::Limited => "the machine had its share: raise spec.limits".to_owned(),
        FlowVerdict::Frame if matches!(target.kind, TargetKind::Ip(_)) => {
            "its source is not the machine's; in mode Bridge: or spec.network.allow would have to \
                name it"
                .to_owned()
        }
        FlowVerdict::Frame if target.kind == TargetKind::Ipv6 => {
            "no machine sends IPv6 unless its pool says spec.network.ipFamilies: [IPv4, IPv6], and \
                then plain packets with its own source"
                .to_owned()
        }
        FlowVerdict::Frame => "no machine may send that, whatever is allowed".to_owned(),
    };
    format!("{target} ({what})")
}

fn remedy(target: &Target, deny_list: &[IpNet]) -> String {
    let TargetKind::Ip(protocol) = target.kind else {
        return "only TCP, UDP and ICMP can be allowed".to_owned();
    };
    // Cloud metadata is among them: it is meant for the host.
    if target.address().is_some_and(is_link_local) {
        return "link-local and metadata addresses are kept from machines".to_owned();
    }
    let within = |nets: &[IpNet], to: &IpAddr| nets.iter().any(|net| net.contains(to));
    let Some(to) = target.address().filter(|to| !within(&nowhere(), to)) else {
        return "no such address can be allowed".to_owned();
    };
    if within(deny_list, &to) {
        return "the host, its cluster and other machines are kept from machines".to_owned();
    }
    match (protocol, target.port) {
        (Protocol::Icmp, _) if !within(&private(), &to) => {
            "of ICMP only echo requests are let through".to_owned()
        }
        (Protocol::Icmp, _) => format!("add to spec.network.allow: {}", entry(protocol, None, to)),
        (_, None) => "a fragment without a port can't be allowed".to_owned(),
        (_, Some(53)) => {
            format!(
                "names are asked of the pool's resolver only: use it, or set \
                    spec.network.resolver: {to}"
            )
        }
        (_, Some(port)) => {
            format!("add to spec.network.allow: {}", entry(protocol, Some(port), to))
        }
    }
}

fn entry(protocol: Protocol, port: Option<u16>, to: IpAddr) -> String {
    let ports = port.map(|port| format!(", ports: [{port}]")).unwrap_or_default();
    format!("{{protocol: {}{ports}, cidrs: [{}]}}", protocol.as_str(), IpNet::from(to))
}

fn is_link_local(to: IpAddr) -> bool {
    match to {
        IpAddr::V4(to) => to.is_link_local(),
        IpAddr::V6(to) => to.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Destination;
    use super::*;

    fn said(protocol: Protocol, to: impl Into<IpAddr>, port: Option<u16>) -> String {
        let to = Destination::Address(to.into());
        advice(
            &Target { kind: TargetKind::Ip(protocol), to, port },
            FlowVerdict::Denied,
            &["192.168.101.0/24".parse().unwrap()],
        )
    }

    #[test]
    fn what_can_be_allowed_is_said_as_it_is_written() {
        let tcp = said(Protocol::Tcp, [203, 0, 113, 9], Some(8080));
        let entry =
            "add to spec.network.allow: {protocol: TCP, ports: [8080], cidrs: [203.0.113.9/32]}";
        assert_eq!(tcp, format!("TCP 203.0.113.9 port 8080 ({entry})"));
        let ping = said(Protocol::Icmp, [10, 1, 2, 3], None);
        assert!(ping.contains("{protocol: ICMP, cidrs: [10.1.2.3/32]}"), "{ping}");
        assert!(
            said(Protocol::Udp, [203, 0, 113, 8], Some(53))
                .contains("spec.network.resolver: 203.0.113.8")
        );
    }

    #[test]
    fn ipv6_is_told_the_same() {
        let to = |text: &str| said(Protocol::Tcp, text.parse::<IpAddr>().unwrap(), Some(8080));
        assert!(
            to("2001:db8::9").contains("{protocol: TCP, ports: [8080], cidrs: [2001:db8::9/128]}")
        );
        assert!(to("fd12::9").contains("cidrs: [fd12::9/128]"));
        for never in ["fe80::9", "::1", "64:ff9b::a00:1", "2002:a00:1::1"] {
            assert!(!to(never).contains("add to"), "{never}");
        }
        let target = Target { kind: TargetKind::Ipv6, to: Destination::Unknown, port: None };
        assert!(advice(&target, FlowVerdict::Frame, &[]).contains("spec.network.ipFamilies"));
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
