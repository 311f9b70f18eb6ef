//! An installation with two pools, a template, and a machine on a bridge of the host.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use agentvm_crds::Protocol;
use agentvm_types::{OwnerUid, PoolUid};
use ipnet::IpNet;

use crate::names::{DomainName, InstanceId};
use crate::network::rules::{Lease, Wanted};
use crate::network::{Allow, Link, LinkLimits, Mac, Nic, Policy, PortRange, Subnet, Table};

pub struct Sample {
    pub table: Table,
    pub subnet: Subnet,
    pub deny_list: Vec<IpNet>,
    pub policies: BTreeMap<OwnerUid, Policy>,
    pub before: BTreeMap<OwnerUid, Policy>,
    pub links: Vec<Link>,
    pub host_addresses: Vec<IpNet>,
    pub leases: Vec<Lease>,
}

pub fn policy() -> Policy {
    Policy {
        generation: 1,
        ipv6: false,
        allow: Vec::new(),
        resolvers: vec![Ipv4Addr::new(203, 0, 113, 53)],
        limits: LinkLimits {
            bytes_per_second: Some(67_108_864),
            packets_per_second: 20_000,
            connections: 512,
        },
    }
}

pub fn allow(protocol: Protocol, ports: &[u16], cidrs: &[&str]) -> Allow {
    let ports = ports.iter().map(|port| PortRange { first: *port, last: *port }).collect();
    Allow { protocol, ports, cidrs: cidrs.iter().map(|net| net.parse().unwrap()).collect() }
}

impl Sample {
    pub fn new() -> Self {
        let instance = InstanceId::from_recorded("0a1b2c3d");
        let subnet = Subnet {
            bridge: "agentvm0".into(),
            gateway: Ipv4Addr::new(192, 168, 101, 1),
            prefix: 24,
        };
        let nat = |host, owner: &str| Link {
            nic: Nic::nat(&instance, &subnet, Ipv4Addr::new(192, 168, 101, host)),
            owner_uid: OwnerUid::new(owner),
        };
        let slot = DomainName::for_slot(&instance, &PoolUid::new("uid-registry"), 7);
        let plugged = Link {
            nic: Nic::bridge(&instance, &slot, "br0"),
            owner_uid: OwnerUid::new("uid-registry"),
        };
        let leases =
            vec![Lease { tap: plugged.nic.tap.clone(), address: Ipv4Addr::new(10, 1, 2, 40) }];
        let links =
            vec![nat(10, "uid-default"), nat(11, "uid-registry"), nat(12, "uid-unknown"), plugged];
        let registry = Policy {
            allow: vec![
                allow(
                    Protocol::Tcp,
                    &[8080, 8081, 5000],
                    &["203.0.113.0/24", "203.0.113.7/32", "10.1.2.3/32"],
                ),
                allow(Protocol::Udp, &[], &[]),
                allow(Protocol::Icmp, &[], &["10.1.2.0/24"]),
            ],
            limits: LinkLimits {
                bytes_per_second: None,
                packets_per_second: 1000,
                connections: 64,
            },
            ..policy()
        };
        let policies = BTreeMap::from([
            (OwnerUid::new("uid-default"), policy()),
            (OwnerUid::new("uid-registry"), registry),
        ]);
        let deny_list = vec!["10.96.0.0/12".parse().unwrap(), "198.51.100.17/32".parse().unwrap()];
        let table = Table::of(&instance);
        let host_addresses = ["10.1.2.9/32", "203.0.113.9/32", "2001:db8::9/128"]
            .map(|net| net.parse().unwrap())
            .to_vec();
        Self {
            table,
            subnet,
            deny_list,
            policies,
            before: BTreeMap::from([(OwnerUid::new("uid-gone"), policy())]),
            links,
            host_addresses,
            leases,
        }
    }

    /// The sample where the first pool asks for IPv6, and the second one did a moment ago.
    pub fn dual() -> Self {
        let mut sample = Self::new();
        let instance = InstanceId::from_recorded("0a1b2c3d");
        for link in sample.links.iter_mut().take(3) {
            link.nic = Nic::dual(&instance, &sample.subnet, link.nic.address().unwrap());
        }
        let cidrs = ["2001:db8:7::/48", "fd99::7/128", "10.1.2.3/32"];
        let allow =
            vec![allow(Protocol::Tcp, &[8080], &cidrs), allow(Protocol::Icmp, &[], &["fd99::/64"])];
        sample
            .policies
            .insert(OwnerUid::new("uid-default"), Policy { ipv6: true, allow, ..policy() });
        sample.deny_list.extend([
            "fd00:96::/112".parse::<IpNet>().unwrap(),
            "2001:db8:6443::1/128".parse().unwrap(),
        ]);
        sample
    }

    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            table: &self.table,
            subnet: &self.subnet,
            gateway_mac: Mac::new([0x52, 0x54, 0, 1, 1, 1]),
            deny_list: &self.deny_list,
            host_addresses: &self.host_addresses,
            policies: &self.policies,
            before: &self.before,
            links: &self.links,
            leases: self.leases.clone(),
            qemu_users: Some(2_100_000_000..=2_100_065_535),
        }
    }
}
